"""Write docs/keys.md and the tables of keys in README.md from the declarations in mlpot/settings."""

from pathlib import Path

from mlpot.settings.describe import filled, reference

ROOT = Path(__file__).resolve().parents[1]

if __name__ == "__main__":
    (ROOT / "docs" / "keys.md").write_text(reference(), encoding="utf-8")
    readme = ROOT / "README.md"
    readme.write_text(filled(readme.read_text(encoding="utf-8")), encoding="utf-8")
