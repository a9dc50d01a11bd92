"""Completion: what a shell offers while a line is typed."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from cnnbench import config, reporting, runs
from cnnbench.cli.contract import Answer
from cnnbench.cli.typed import LATEST, list_made
from cnnbench.errors import CnnbenchError

if TYPE_CHECKING:
    from cnnbench.cli.answers import Lines

# Each asks for the words that fit the line up to the cursor, one a line.
SCRIPTS = {
    "bash": """\
# source <(cnnbench completion bash)
_cnnbench() {
  local IFS=$'\\n' line=${COMP_LINE:0:COMP_POINT}
  local word=${line##* }
  COMPREPLY=($(cnnbench completion words "$line" 2>/dev/null))
  # Bash takes the = for the end of a word, so what stands before it is no part of the answer.
  if [[ $word == *=* && $COMP_WORDBREAKS == *=* ]]; then
    COMPREPLY=("${COMPREPLY[@]#"${word%%=*}="}")
  fi
  [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace
}
complete -o default -F _cnnbench cnnbench
""",
    "zsh": """\
# source <(cnnbench completion zsh)
_cnnbench() {
  local -a found
  found=(${(f)"$(cnnbench completion words "${BUFFER[1,CURSOR]}" 2>/dev/null)"})
  compadd -S '' -- ${(M)found:#*=}
  compadd -- ${found:#*=}
  _files
}
compdef _cnnbench cnnbench
""",
    "fish": """\
# cnnbench completion fish | source
complete -c cnnbench -a '(cnnbench completion words (commandline -cp) 2>/dev/null)'
""",
}
WORDS = "words"
OF_RUNS = (
    *("resume", "ensemble", "verify", "evaluate", "predict", "export", "visualize", "replay"),
    *("compare", "report", "diff", "runs", "tag", "note", "clean"),
)
VALUES = {
    "device": ("auto", "cpu", "gpu"),
    "deterministic": ("true", "false"),
    "run_dir_exists": ("error", "resume", "replace"),
}


def answer_shell(
    parser: argparse.ArgumentParser, arguments: Sequence[str], verbs: Iterable[str]
) -> Answer[Lines]:
    """Print the script for a shell, or the words that it asks for."""
    parser.add_argument("shell", choices=[*SCRIPTS, WORDS], help="bash, zsh or fish")
    parser.add_argument("line", nargs="?", default="", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    is_asked = given.shell == WORDS
    lines = sorted(set(words(given.line, verbs))) if is_asked else SCRIPTS[given.shell].splitlines()
    if not reporting.stdout().quiet:
        reporting.write_lines(lines)
    return Answer({"lines": lines})


def words(line: str, verbs: Iterable[str]) -> Iterator[str]:
    """Yield what may stand in the place of the last word of a line, which may be empty."""
    *before, word = line.split(" ")
    typed = [text for text in before[1:] if text]
    if not typed:
        yield from (verb for verb in verbs if verb.startswith(word))
    if typed[:1] and typed[0] in OF_RUNS:
        made, inner = list_made()
        places = (LATEST, *map(str, (*made, *inner)))
        yield from (place for place in places if place.startswith(word))
        return
    if typed[:1] == ["completion"]:
        yield from (shell for shell in SCRIPTS if shell.startswith(word))
        return
    yield from (text for text in _overrides(word, typed) if text.startswith(word))


def _overrides(word: str, typed: Sequence[str]) -> Iterator[str]:
    groups = config.options()
    key, is_assigned, value = word.partition("=")
    if is_assigned:
        known = groups.get(key, VALUES.get(key, ()))
        *others, _ = value.split(",")  # of several values the last is completed
        yield from (f"{key}={','.join([*others, option])}" for option in known)
        return
    yield from (f"{group}=" for group in groups)
    chosen = [text for text in typed if text.partition("=")[0] in groups and "," not in text]
    try:
        composed = config.unresolved(config.compose(chosen))
    except CnnbenchError:  # half a line
        composed = config.unresolved(config.compose([]))
    yield from (f"{name}=" for name in runs.flatten(composed) if not name.endswith("_target_"))
