"""Pictures of README and docs, made from real runs: `python docs/pictures.py`; a minute, needs Chromium."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.text import Text

PICTURES = Path(__file__).parent / "pictures"
COLUMNS = 80
WINDOW = (1280, 900)
COLOURS = 128  # of the screenshot, which keeps it small
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def terminal(line: str, folder: Path) -> str:
    """Run a line in a folder; return it and what it prints, with the codes of colours."""
    environment = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(COLUMNS), "TTY_COMPATIBLE": "0"}
    command = [sys.executable, "-P", "-m", "cnnbench", *line.split()[1:]]
    done = subprocess.run(command, cwd=folder, env=environment, check=True, text=True, stdout=subprocess.PIPE)
    return f"$ {line}\n{done.stdout}"


def as_svg(text: str, title: str) -> str:
    """Draw a terminal, with fonts of the reader's machine: a picture loads nothing from elsewhere."""
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True)
        console.print(Text.from_ansi(text))
        drawn = console.export_svg(title=title)
    return re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)


def screenshot(page: Path, file: Path) -> None:
    """Open a page in Chromium and keep what its first screen shows."""
    browser = next(filter(None, map(shutil.which, BROWSERS)))
    size = ",".join(map(str, WINDOW))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={size}"]
    flags.append("--virtual-time-budget=10000")  # until the charts are drawn
    subprocess.run(
        [browser, *flags, f"--screenshot={file}", page.as_uri()], check=True, stderr=subprocess.DEVNULL
    )
    Image.open(file).convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE).save(file, optimize=True)


def main() -> None:
    """Make every picture anew."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = terminal("cnnbench run_dir=outputs/first", folder)
        sweep = terminal("cnnbench -m model=mlp,cnn seed=0,1,2 run_dir=outputs/sweep", folder)
        terminal("cnnbench report outputs/sweep", folder)
        (PICTURES / "first_run.svg").write_text(as_svg(first, "the first run"))
        (PICTURES / "comparison.svg").write_text(as_svg(sweep, "a comparison"))
        screenshot(folder / "outputs/first/report.html", PICTURES / "page.png")
        screenshot(folder / "outputs/sweep/report.html", PICTURES / "comparison_page.png")


if __name__ == "__main__":
    main()
