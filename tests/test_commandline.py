"""What the commands say on standard error: one line each, the name of the command before it."""

import contextlib
import gc
import subprocess
import sys
import warnings

import pytest

from vec2text.commandline import Parser, add_inverter_group, command_parser, complain, importing, warn_in_lines


def test_a_complaint_is_one_line_and_gives_the_exit_code(capsys):
    assert complain("tool.py", ValueError("first\n  second")) == 2
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "tool.py: first second\n")


def test_a_wrong_flag_is_one_line_and_exit_code_2(capsys):
    with pytest.raises(SystemExit) as end:
        Parser(prog="tool.py").parse_args(["--flag"])
    assert end.value.code == 2
    assert capsys.readouterr().err == "tool.py: unrecognized arguments: --flag; see --help\n"


def test_an_option_without_effect_is_refused_by_the_name_of_its_flag(capsys):
    with pytest.raises(SystemExit) as end:
        Parser(prog="tool.py").no_effect("n_best", "without --refine")
    assert end.value.code == 2
    assert capsys.readouterr().err == "tool.py: --n-best has no effect without --refine; see --help\n"


def test_every_command_takes_an_inverter_an_encoder_and_a_device():
    parser = command_parser("tool.py", "Does it. See the help.", "examples:\n  tool.py  like this")
    add_inverter_group(parser, "model", encoder="embeds all").add_argument("--more")
    options = parser.parse_args(["--model", "a", "--encoder", "b", "--more", "c"])
    assert (options.model, options.encoder, options.device, options.more) == ("a", "b", None, "c")
    shown = parser.format_help()
    assert "\nDoes it.\n\n" in shown
    assert "embeds all (default: the inverter's own)" in shown
    assert shown.endswith("examples:\n  tool.py  like this\n")


@pytest.mark.filterwarnings("always")
def test_a_place_that_warns_is_heard_once(capsys, monkeypatch):
    monkeypatch.setattr(warnings, "showwarning", None)  # put back in the end
    warn_in_lines("tool.py")
    for row in range(3):
        warnings.warn(f"row {row}\nis odd", stacklevel=1)
    warnings.warn("something else", stacklevel=1)
    assert capsys.readouterr().err == "tool.py: warning: row 0 is odd\ntool.py: warning: something else\n"


def test_it_loads_nothing_heavy():
    code = "import sys, vec2text.commandline; print(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "argparse" in loaded
    assert not {"numpy", "torch", "rich"} & set(loaded)


@pytest.mark.parametrize(("known", "collects"), [(False, False), (True, True)])
def test_nothing_is_collected_while_libraries_are_imported(monkeypatch, known, collects):
    """And what has been imported is never searched; in a process that has all of it, garbage must not be kept so."""
    monkeypatch.setitem(sys.modules, "vec2text.inverter", None)
    if not known:
        monkeypatch.delitem(sys.modules, "vec2text.inverter")
    before = gc.get_freeze_count()
    with contextlib.suppress(ImportError), importing():
        assert gc.isenabled() == collects
        raise ImportError
    assert gc.isenabled()
    assert gc.get_freeze_count() == before
    with importing():
        pass
    assert gc.isenabled()
    assert (gc.get_freeze_count() > before) != collects
    gc.unfreeze()
