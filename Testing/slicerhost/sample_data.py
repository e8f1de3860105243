"""The module `SampleData`: sources registered by modules, downloaded with their checksum and loaded."""

import hashlib
import os
import sys
import types
import urllib.request

import slicer


class SampleDataSource:
    """One data set: addresses, file names, node names, checksums."""

    def __init__(self, **facts):
        self.__dict__.update(facts)


class SampleDataLogic:
    """Registers, downloads and loads data sets, kept in `slicer.modules.sampleDataSources` by category."""

    @staticmethod
    def registerCustomSampleDataSource(
        category="Custom",
        sampleName=None,
        uris=None,
        fileNames=None,
        nodeNames=None,
        customDownloader=None,
        thumbnailFileName=None,
        loadFileTypes=None,
        loadFiles=None,
        loadFileProperties=None,
        checksums=None,
        loadFileType=None,
    ):
        """Add a data set. A checksum is "SHA256:<digest>"."""
        if not hasattr(slicer.modules, "sampleDataSources"):
            slicer.modules.sampleDataSources = {}
        known = slicer.modules.sampleDataSources.setdefault(category, [])
        listed = [[v] if isinstance(v, str) or v is None else list(v) for v in (uris, fileNames, nodeNames, checksums)]
        count = max(map(len, listed))
        uris, fileNames, nodeNames, checksums = (v + [v[0]] * (count - len(v)) if len(v) == 1 else v for v in listed)
        types_ = loadFileTypes or loadFileType
        types_ = [types_] * count if isinstance(types_, str) or types_ is None else list(types_)
        if not len(uris) == len(fileNames) == len(nodeNames) == len(types_) == len(checksums):
            raise ValueError("All fields of sample data source must have the same length")
        if any(source.sampleName == sampleName for source in known):
            return
        known.append(
            SampleDataSource(
                sampleName=sampleName,
                uris=uris,
                fileNames=fileNames,
                nodeNames=nodeNames,
                customDownloader=customDownloader,
                thumbnailFileName=thumbnailFileName,
                loadFileType=types_,
                loadFiles=loadFiles,
                loadFileProperties=loadFileProperties or {},
                checksums=checksums,
            )
        )

    @staticmethod
    def sampleDataSourcesByCategory(category=None):
        """The data sets of a category, or all by category."""
        sources = getattr(slicer.modules, "sampleDataSources", {})
        return sources if category is None else sources.get(category, [])

    def sourceForSampleName(self, sampleName):
        """A data set by name, or None."""
        for sources in self.sampleDataSourcesByCategory().values():
            for source in sources:
                if source.sampleName == sampleName:
                    return source
        return None

    def downloadFromSource(self, source):
        """Download and load; the nodes, or the paths of files that are not to be loaded."""
        if source.customDownloader:
            return source.customDownloader(source)
        results = []
        for uri, name, node, kind, checksum in zip(
            source.uris, source.fileNames, source.nodeNames, source.loadFileType, source.checksums, strict=True
        ):
            path = self.downloadFile(uri, slicer.app.cachePath, name, checksum)
            if source.loadFiles is False or node is None:
                results.append(path)
                continue
            properties = {**source.loadFileProperties, "name": node}
            results.append(slicer.util.loadNodeFromFile(path, kind or "VolumeFile", properties))
        return results

    def downloadSamples(self, sampleName):
        """Download and load a data set by name."""
        source = self.sourceForSampleName(sampleName)
        if source is None:
            raise ValueError(f"No sample data is registered as {sampleName}")
        return self.downloadFromSource(source)

    def downloadSample(self, sampleName):
        """As downloadSamples, its first result."""
        return self.downloadSamples(sampleName)[0]

    def downloadFile(self, uri, destFolderPath, name, checksum=None):
        """Download a file into a folder, checked. Raises ValueError where the checksum does not match."""
        path = os.path.join(destFolderPath, name)
        if not (os.path.exists(path) and checksum and _digest(path, checksum)):
            urllib.request.urlretrieve(uri, path)
        if checksum and not _digest(path, checksum):
            raise ValueError(f"Checksum of {path} does not match {checksum}")
        return path


def _digest(path, checksum) -> bool:
    algorithm, _, expected = checksum.partition(":")
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm.lower()).hexdigest() == expected.lower()


def install():
    """Make `import SampleData` work."""
    module = types.ModuleType("SampleData")
    module.SampleDataLogic, module.SampleDataSource = SampleDataLogic, SampleDataSource
    module.downloadSample = lambda name: SampleDataLogic().downloadSample(name)
    module.downloadSamples = lambda name: SampleDataLogic().downloadSamples(name)
    sys.modules["SampleData"] = module
