"""Numbers and tables in the words of a terminal."""

from collections.abc import Sequence


def count(number: float) -> str:
    """A count in three digits: 950, 25.6 k, 2.56 B."""
    return _scaled(number, 1000, ("", " k", " M", " B", " T", " P", " E", " Z"))


def size(num_bytes: float) -> str:
    """Bytes in three digits: 512 B, 1.50 KiB."""
    return _scaled(num_bytes, 1024, (" B", " KiB", " MiB", " GiB", " TiB", " PiB"))


def duration(seconds: float) -> str:
    """Seconds as 12 s, 3 min 5 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def aligned(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of equal width, two spaces apart; numbers are right-aligned."""
    columns = list(zip(*([headers, *rows]), strict=True))
    widths = [max(map(len, column)) for column in columns]
    numeric = [len(column) > 1 and all(cell[:1].isdigit() or cell == "-" for cell in column[1:]) for column in columns]
    lines = []
    for row in [headers, *rows]:
        cells = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _scaled(number: float, base: int, units: Sequence[str]) -> str:
    power = 0
    while number >= base and power < len(units) - 1:
        number, power = number / base, power + 1
    digits = 0 if power == 0 or number >= 100 else 1 if number >= 10 else 2
    return f"{number:.{digits}f}{units[power]}"
