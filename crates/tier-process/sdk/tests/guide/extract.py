"""Writes the code blocks of App Factory's plugin development guide beside this file, as they stand. Run by hand, with the guide's path.

The blocks are the guide's ("D087 - Plugin Development Guide", App Factory); tests read them and change none.
"""

import re
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    """block_NN.<language>, numbered in the order of the guide."""
    text = Path(sys.argv[1]).read_text("utf-8")
    for old in HERE.glob("block_*"):
        old.unlink()
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)
    for number, (language, body) in enumerate(blocks):
        (HERE / f"block_{number:02}.{language or 'txt'}").write_text(body, "utf-8")
    print(f"{len(blocks)} blocks")


if __name__ == "__main__":
    main()
