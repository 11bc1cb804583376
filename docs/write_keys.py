"""Write docs/keys.md and the tables of keys in the pages of docs/ from the declarations in mlpot/settings."""

from pathlib import Path

from mlpot.settings.describe import filled, reference

ROOT = Path(__file__).resolve().parents[1]

if __name__ == "__main__":
    (ROOT / "docs" / "keys.md").write_text(reference(), encoding="utf-8")
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = page.read_text(encoding="utf-8")
        page.write_text(filled(text), encoding="utf-8")
