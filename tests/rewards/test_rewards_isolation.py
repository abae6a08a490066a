"""Files beside the user's data are no packages: they neither run nor decide."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import burnish
from burnish.isolation import installed_folders, module_command

SOURCE = Path(burnish.__file__).parents[1]
HIJACK = (
    "open('RAN', 'w').write(__name__)\ndef parse(*a, **k): return [1]\ndef verify(*a, **k): return"
    " True\n"
)


def test_files_in_the_current_folder_are_not_imported_by_the_maths_worker(tmp_path, monkeypatch):
    for name in ("math_verify", "latex2sympy2_extended", "sympy", "json", "signal", "burnish"):
        (tmp_path / f"{name}.py").write_text(HIJACK)
    code = (
        f"import sys; sys.path.insert(0, {str(SOURCE)!r})\nfrom burnish.rewards.maths import"
        f" MathsReward as M\nimport os\nos.chdir({str(tmp_path)!r}); sys.path.append(os.getcwd());"
        " os.environ['PYTHONPATH'] = os.getcwd()\nr = M(); print([j.verdict for j in"
        " r.judge([r'\\boxed{x+1}', r'\\boxed{1+x}'], answer=['x+3', 'x+1'])]); r.close()"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=180, check=False
    )
    assert done.stdout.strip() == "['wrong', 'correct']", done.stderr
    assert not (tmp_path / "RAN").exists()


def test_an_isolated_interpreter_gets_installed_folders_only(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert str(tmp_path) not in installed_folders()
    assert "" not in installed_folders()
    assert module_command("burnish.rewards.maths_worker")[1] == "-I"
