"""The findings of `segacc check`, and their list: many findings of one kind are one entry."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Literal

from segacc.data.reading.pairing import Finding

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
SHOWN = 3
"""How many file names are shown for each kind of finding."""
NAME_OR_NUMBER = re.compile(r"\S*\d[^\s:]*|\S+/\S*[^\s:,]|\S+\.\w{2,4}\b")


@dataclass(frozen=True)
class AuditFinding(Finding):
    """A finding with its group. An error stops training; a warning makes scores doubtful; a note
    says how the data are understood."""

    severity: Severity
    topic: str


@dataclass(frozen=True)
class Entry:
    """The findings of one topic."""

    severity: Severity
    topic: str
    count: int
    lines: list[str]


def entries(findings: list[AuditFinding], all_names: bool = False) -> list[Entry]:
    """The findings, grouped and counted: errors first, then warnings and notes.

    Args:
        all_names: name every file, not the first few of each kind.
    """
    found: list[Entry] = []
    for severity in SEVERITIES:
        topics: defaultdict[str, list[AuditFinding]] = defaultdict(list)
        for finding in findings:
            if finding.severity == severity:
                topics[finding.topic].append(finding)
        for topic, group in topics.items():
            lines: list[str] = []
            kinds: defaultdict[str, list[AuditFinding]] = defaultdict(list)
            for finding in group:
                kinds[finding.file if all_names else _kind(finding.problem)].append(finding)
            for same in kinds.values():
                lines += _entry(same) if not all_names else [_line(one) for one in same]
            found.append(Entry(severity, topic, len(group), lines))
    return found


def format_findings(findings: list[AuditFinding], all_names: bool = False) -> str:
    """`entries` for a terminal."""
    lines: list[str] = []
    for entry in entries(findings, all_names):
        lines.append(f"{entry.severity}: {entry.topic} ({entry.count})")
        lines += [f"  {line}" for line in entry.lines]
    counts = Counter(finding.severity for finding in findings)
    return "\n".join([*lines, f"errors: {counts['error']}, warnings: {counts['warning']}"])


def _kind(problem: str) -> str:
    """Return what is wrong, without the names and numbers of the single file."""
    return re.sub(r"#(,? #)+", "#", NAME_OR_NUMBER.sub("#", problem))


def _line(finding: AuditFinding) -> str:
    return f"{finding.file}: {finding.problem}"


def _entry(same: list[AuditFinding]) -> list[str]:
    """The first finding of a kind, and how many more there are."""
    first, *more = same
    if not more:
        return [_line(first)]
    names = ", ".join(finding.file for finding in more[: SHOWN - 1])
    dots = ", ..." if len(more) >= SHOWN else ""
    return [_line(first), f"and {len(more)} more of this kind: {names}{dots}"]
