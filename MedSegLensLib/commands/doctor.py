"""`medseglens doctor`: is everything in place, and what to do where it is not."""

from dataclasses import asdict

from MedSegLensLib.commands.common import Result, add_command


def add_parser(commands) -> None:
    add_command(commands, "doctor", "check Python, torch, GPU, memory and packs", run)


def run(options) -> Result:
    from MedSegLensLib.doctor import examine

    findings = examine()
    text = []
    for finding in findings:
        text.append(f"{'ok ' if finding.ok else '!! '} {finding.name}: {finding.value}")
        if not finding.ok:
            text.append(f"      {finding.remedy}")
    sound = all(f.ok for f in findings)
    return Result({"ok": sound, "findings": [asdict(f) for f in findings]}, text, 0 if sound else 7)
