"""What the panel's tables share: cells, headers, and a height that shows all rows of a short table."""

import qt


def cell(text: str, right: bool = False, tip: str = ""):
    """A cell that is read, not edited."""
    item = qt.QTableWidgetItem(text)
    item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable)
    if right:
        item.setTextAlignment(int(qt.Qt.AlignRight | qt.Qt.AlignVCenter))
    if tip:
        item.setToolTip(tip)
    return item


def readOnlyTable(table, headers: list[str], stretch: int = 0) -> None:
    """Set up a table: columns as wide as their contents, the one of `stretch` taking what is left."""
    table.setColumnCount(len(headers))
    table.setHorizontalHeaderLabels(headers)
    table.verticalHeader().setVisible(False)
    table.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
    table.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
    table.setSelectionMode(qt.QAbstractItemView.SingleSelection)
    header = table.horizontalHeader()
    for column in range(len(headers)):
        mode = qt.QHeaderView.Stretch if column == stretch else qt.QHeaderView.ResizeToContents
        header.setSectionResizeMode(column, mode)
    header.setMinimumSectionSize(24)


def fitRows(table, rows: int) -> None:
    """As high as `rows` rows and the header."""
    header = table.horizontalHeader()
    table.setFixedHeight(header.sizeHint.height() + rows * table.verticalHeader().defaultSectionSize + 4)
