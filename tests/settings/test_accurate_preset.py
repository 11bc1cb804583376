"""Terms of the accurate preset for crystals, water and organic molecules."""

from mlpot.settings.fit import FitConfig
from mlpot.settings.presets import is_organic, resolve


def densities(*species):
    return [term for term in resolve(FitConfig(preset="accurate"), species).terms if term.type == "soap"]


def test_what_is_organic():
    assert is_organic((1, 6)) and is_organic((1, 6, 7, 8, 16))
    assert not is_organic((1, 8)) and not is_organic((6,)) and not is_organic((1, 6, 29))


def test_molecules_have_a_linear_kernel_of_the_same_invariants():
    quadratic, linear = densities(1, 6, 8)
    assert (quadratic.zeta, linear.zeta) == (2, 1)
    same = set(type(linear).model_fields) - {"zeta"}
    assert all(getattr(quadratic, key) == getattr(linear, key) for key in same)
    assert linear.cutoff == 4.0 and linear.atom_sigma == 0.4


def test_others_have_densities_that_reach_farther():
    for species in ((14,), (41, 42), (1, 8)):
        reaches = [term.cutoff for term in densities(*species)]
        assert reaches[0] == reaches[1] < reaches[2] < reaches[3]
        assert {term.zeta for term in densities(*species)} == {2}


def test_kernels_of_presets_are_cut_and_others_are_not():
    assert resolve(FitConfig(preset="fast"), (14,)).force_tolerance == 0.001
    assert resolve(FitConfig(preset="fast", force_tolerance=0), (14,)).force_tolerance == 0
    assert resolve(FitConfig(terms=[{"type": "soap"}]), (14,)).force_tolerance == 0
    again = resolve(resolve(FitConfig(preset="fast"), (14,)), (14,))
    assert again.force_tolerance == 0.001
