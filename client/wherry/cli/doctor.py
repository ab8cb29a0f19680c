"""``wherry doctor``: what this machine's Wherry is made of, and what is wrong with it.

Owns: the report and its form. Does not own: the looks (``checks``, ``disk``).
"""

from __future__ import annotations

from wherry.cli import output, params
from wherry.cli.checks import Report, Setting, examine
from wherry.cli.command import command
from wherry.cli.daemon import daemon_json, daemon_text
from wherry.cli.words import count_text, printable
from wherry.progress import size_text


@command(params.STORE, params.JSON)
def doctor(store: str | None, json: bool) -> None:
    """Look for what could be wrong, and say what to do about it.

    Prints each setting with its value and where it came from, the home and
    its disk, the socket, the daemon (it is started if none runs), whether
    the store can be read, and versions. The exit code is 1 if something is
    wrong.

      wherry doctor
      wherry doctor --store s3://bucket/prefix

    --json gives one object: ok, problems (what, remedy), advice, settings
    (name, value, source, has_effect), home (path, filesystem, mount,
    free_bytes, total_bytes, free_inodes), daemon (as `wherry daemon status
    --json` has it), store (address, readable, error), versions (by name).
    What could not be found out is null.
    """
    report = examine(store)
    if json:
        output.print_json(_as_json(report))
    else:
        _print_report(report)
    if report.problems:
        raise SystemExit(1)


def _as_json(report: Report) -> dict[str, object]:
    home = report.home
    return {
        "ok": not report.problems,
        "problems": [problem._asdict() for problem in report.problems],
        "advice": report.advice,
        "settings": [setting._asdict() for setting in report.settings],
        "home": {"path": str(home), **(report.disk._asdict() if report.disk else {})}
        if home
        else None,
        "daemon": daemon_json(report.daemon, home) if home and not report.is_deaf else None,
        "store": report.store._asdict() if report.store else None,
        "versions": report.versions,
    }


def _print_report(report: Report) -> None:
    _print_head("settings")
    rows = ((each.name, _value(each.value), _source(each)) for each in report.settings)
    output.print_table(("name", "value", "from"), rows)
    _print_head("machine")
    output.print_fields((name, printable(value)) for name, value in _machine(report).items())
    _print_head("versions")
    output.print_fields(report.versions.items())
    _print_head(count_text(len(report.problems), "problem") if report.problems else "all is well")
    for problem in report.problems:
        for number, line in enumerate([*problem.what.splitlines(), *problem.remedy.splitlines()]):
            output.print_text(f"{' ' if number else '*'} {printable(line)}")
    if report.advice:
        _print_head("advice")
    for advice in report.advice:
        output.print_text(f"* {advice}")


def _source(setting: Setting) -> str:
    return setting.source if setting.has_effect else f"{setting.source}, without effect yet"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else printable(str(value))


def _machine(report: Report) -> dict[str, str]:
    shown = {"home": str(report.home or "none")}
    if report.disk:
        disk = report.disk
        inodes = "" if disk.free_inodes is None else f", {disk.free_inodes:,} inodes"
        shown["disk"] = (
            f"{disk.filesystem or 'unknown'} at {disk.mount or '?'}, {size_text(disk.free_bytes)}"
            f" of {size_text(disk.total_bytes)} free{inodes}"
        )
    if report.home:
        shown["socket"] = str(daemon_json(None, report.home)["socket"])
        deaf = "it does not answer, see below"
        shown["daemon"] = deaf if report.is_deaf else daemon_text(report.daemon)
    if report.store:
        how = "can be read" if report.store.readable else f"can't be read: {report.store.error}"
        shown["store"] = f"{report.store.address} {how}"
    return shown


def _print_head(text: str) -> None:
    output.print_text(f"\n{text}")
