"""The contact sheet: every figure beside the others, so that one sees whether one hand drew them.

python -m utils.gallery                  figures/gallery.png
python -m utils.gallery --preset quick   build/quick/figures/gallery.png
"""

import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from utils.cli import Options, parse_args
from utils.files import say, shown, write_whole

NAME = "gallery"
COLUMNS, WIDTH = 4, 560  # pixels of a figure
MARGIN, TITLE = 16, 24


def contact_sheet(options: Options) -> Path:
    """Write all figures, smaller and with their names, as <figures>/gallery.png, and return its path.

    Ends the program with status 1 where there is no figure.
    """
    paths = sorted(path for path in options.figures_dir.glob("*.png") if path.stem != NAME)
    if not paths:
        sys.exit(f"There is no figure in {shown(options.figures_dir)}; run a script first.")
    placed, heights = [], [MARGIN] * COLUMNS
    for path in paths:
        with Image.open(path) as image:
            small = image.convert("RGB").resize(
                (WIDTH, round(WIDTH * image.height / image.width)), Image.Resampling.LANCZOS
            )
        column = heights.index(min(heights))  # the shortest so far
        placed.append((MARGIN + column * (WIDTH + MARGIN), heights[column], path.stem, small))
        heights[column] += TITLE + small.height + MARGIN
    sheet = Image.new("RGB", (MARGIN + COLUMNS * (WIDTH + MARGIN), max(heights)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=16)
    for left, top, name, small in placed:
        pen.text((left, top), name, fill="black", font=font)
        sheet.paste(small, (left, top + TITLE))
    target = options.figures_dir / f"{NAME}.png"
    colors = sheet.quantize(256, dither=Image.Dither.NONE)  # line drawings: a third of the size, no visible loss
    write_whole(target, lambda file: colors.save(file, format="png", optimize=True))
    say(f"{NAME}: {len(paths)} figures in {shown(target)}")
    return target


def main(argv: list[str] | None = None) -> None:
    """Draw the contact sheet of a preset's figures."""
    contact_sheet(parse_args(__doc__, argv, runs=False))


if __name__ == "__main__":
    main()
