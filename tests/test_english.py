"""Plain English: count turns of phrase that are hard to read in docstrings, comments and messages."""

import ast
import io
import re
import tokenize
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "mlpot"
TURNS = (
    r"\b(?:that|those) of (?!the (?:same|other)\b)",
    r"\b(?:that|those) (?:whose|of which|of whom)\b",
    r"(?<!, )\bso (?:many|much|few|little|long|often|large|small)\b(?! as| that)",
    r"\btold apart\b|\btell(?:s|ing)? apart\b",
    r"\bheld against\b",
    r"\banew\b",
    r"\bdear(?:er|est|ly)?\b",
    r"\bwhat no\b|\bof whom\b|\bthan which\b",
    r"\b(?:is|are|was|were) said\b|\bsays so\b|\bsaid so\b",
    r"\bhas to do with\b|\bhave to do with\b",
    r"\bfor ever\b|\bnobody\b|\bsomebody\b",
    r"^(?:Of|Those|That|Its|Their|Whose) (?!course)",
    r"\A(?:What|How|Where|Which|Who|By) (?!.*\?)",
    r"\bbeside\b",
    r"\b(?:is|are) none of\b|\bhave a part in\b|\bhas a part in\b|\berrs? by\b",
    r"\bof what the\b|\bfrom what the\b|\bthan what\b",
    r"\bsays? (?:nothing|little|something)\b",
    r"\bas many\b(?! as|\w)",
)
"""Habits of a literal translation: pronouns in place of nouns, questions in place of names, old-fashioned words."""
MOST_PER_THOUSAND = 0.35


def prose(file):
    """Yield the docstrings, comments and messages of a module."""
    source = file.read_text()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not token.string.startswith(("# fmt", "# noqa", "# type")):
            yield token.string.lstrip("# ")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value.split()) > 3:
            yield node.value.strip()


def counted(files):
    """Count the words of the prose and find turns in it: (n_words, list of (file, turn, context))."""
    n_words, found = 0, []
    for file in files:
        for text in prose(file):
            n_words += len(text.split())
            for turn in TURNS:
                for match in re.finditer(turn, text, 0 if turn.startswith(r"\A") else re.MULTILINE):
                    begin = max(match.start() - 30, 0)
                    found.append((file.name, match[0], " ".join(text[begin : match.end() + 30].split())))
    return n_words, found


def test_the_prose_is_plain():
    n_words, found = counted(sorted(PACKAGE.rglob("*.py")))
    rate = 1000 * len(found) / n_words
    assert rate <= MOST_PER_THOUSAND, f"{rate:.1f} turns per 1000 words: {found[:20]}"


def test_turns_are_found(tmp_path):
    """The counter finds turns in clumsy sentences and none in plain ones."""
    bad = tmp_path / "bad.py"
    bad.write_text('"""Of those that are held against that of the model so many are made anew, and dear."""\n')
    assert len(counted([bad])[1]) >= 5
    question = tmp_path / "question.py"
    question.write_text('"""What the model says beside its forces, which says little."""\n')
    assert len(counted([question])[1]) == 3
    plain = tmp_path / "plain.py"
    plain.write_text('"""Forces on all atoms, compared with the labels of the same structures."""\n')
    assert not counted([plain])[1]
