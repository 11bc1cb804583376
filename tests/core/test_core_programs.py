"""C and C++ programs compiled with the core, by gcc and clang, with every instruction set of this processor."""

import numpy as np
import pytest
from core_models import made
from core_programs import CORE, STRICT, objects_of, program, run
from mlpot._ext.core import INSTRUCTION_SETS, CoreModel

pytestmark = pytest.mark.slow

COMPILERS = {"gcc": "g++", "clang": "clang++"}
MODELS = ("two elements", "order 4", "three bodies", "glue", "pairs alone", "acsf", "zernike, gaussian", "bispectrum chem", "mbtr")


@pytest.fixture(scope="module", params=COMPILERS)
def compiled(request, tmp_path_factory):
    """A C compiler, its C++ compiler, and the objects of the core."""
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, COMPILERS[request.param], objects_of(request.param, folder), folder


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for k, name in enumerate(MODELS):
        made(name).export_core(folder / f"{k}.mlpot")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def expected(files):
    """What `evaluate.c` prints, by the extension."""
    return np.array([row for file in files for row in printed(CoreModel(file))])


def printed(model):
    places = np.array([[0, 0, 0], [0, 0, 2.3], [2.1, 0, 0.4], [0, 2.4, 0], [0.3, -2.2, 0.2]])
    offsets, neighbours = np.array([0, 4, 6, 8]), np.array([1, 2, 3, 4, 0, 2, 0, 1], np.int32)
    vectors = places[neighbours] - places[np.repeat([0, 1, 2], np.diff(offsets))]
    numbers = np.resize(model.species, 5).astype(np.int32)
    parts = model.evaluate(numbers, offsets, neighbours, vectors, uncertainty=True)
    of_forces = len(parts["covariances"]) > 0
    found = model.deviations(numbers[:3].copy(), parts, of_forces)
    if of_forces:
        model.share_deviations(numbers, offsets, neighbours, vectors, np.append(found["owed"], [0.0, 0.0]), found["forces_std"])
    energy_std, _ = model.total_deviations(3, parts["covariances"], parts["unexplained"][0])
    return (
        [parts["energies"][0], parts["forces"][1, 2], parts["virial"][0, 0]],
        [found["energies_std"][0], found["forces_std"][1, 0], energy_std],
    )


def numbers(executable, level, files):
    lines = run([executable, level, *files]).splitlines()
    if lines[0] == "absent":
        pytest.skip(f"this processor has no {INSTRUCTION_SETS[level]}")
    assert [line.split()[0] for line in lines] == ["ok", "std"] * len(files), lines
    return np.array([[float(x) for x in line.split()[1:]] for line in lines])


@pytest.mark.parametrize("level", range(3), ids=INSTRUCTION_SETS)
@pytest.mark.parametrize("language", ["c", "c++"])
def test_programs_agree(compiled, files, expected, language, level):
    c, cpp, objects, folder = compiled
    executable = program(c if language == "c" else cpp, language, objects, folder)
    np.testing.assert_allclose(numbers(executable, level, files), expected, rtol=1e-7, atol=1e-9)


def test_every_header_is_one_of_c_plus_plus(compiled, tmp_path):
    source = tmp_path / "headers.cpp"
    names = ("mlpot_core.h", "mlpot_tables.h", "pair_sums.h", "triplets.h", "feature_maps.h")
    lines = [*(f'#include "{name}"' for name in names), "int main() { return mlpot_version() != MLPOT_CORE_VERSION; }", ""]
    source.write_text("\n".join(lines))
    run([compiled[1], "-std=c++17", *STRICT, f"-I{CORE}", source, *compiled[2], "-o", tmp_path / "headers"])
    run([tmp_path / "headers"])


def test_the_example_of_the_header(compiled, files, tmp_path):
    """What stands at its top compiles as it is, and runs."""
    lines = [line.removeprefix(" *").strip() for line in (CORE / "mlpot_core.h").read_text().splitlines()]
    first, last = lines.index('#include "mlpot_core.h"'), lines.index("mlpot_free(model);")
    given = """
    int n_local = 1, n_ghost = 1;
    int32_t numbers[2] = {14, 14}, neighbours[1] = {1};
    int64_t offsets[2] = {0, 1};
    double vectors[3] = {0, 0, 2.3}, energies[1], forces[6];
    """
    source = tmp_path / "example.c"
    source.write_text("#include <stdio.h>\n" + "\n".join(
        [lines[first], "int main(void) {", given, *lines[first + 1 : last + 1], "return 0; }", ""]))
    compiler, _, objects, _ = compiled
    run([compiler, "-std=c11", "-Wall", "-Wextra", f"-I{CORE}", source, *objects, "-lm", "-o", tmp_path / "example"])
    (tmp_path / "model.mlpot").write_bytes(files[0].read_bytes())
    assert len(run([tmp_path / "example"], cwd=tmp_path).split()) == 2
