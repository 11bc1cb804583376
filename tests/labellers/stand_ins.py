"""Programs in place of VASP and FHI-aims: they read the input that ASE has written, and write what ASE reads of the output.

What becomes of them is said in the file `fate` beside the program: "ok", "unconverged" or "crash".
"""

VASP = '''
import sys
from pathlib import Path
import numpy as np
from ase.io import read

fate = (Path(__file__).parent / "fate").read_text()
if fate == "crash":
    print(" VERY BAD NEWS! internal error in subroutine SGRCON:")
    sys.exit("forrtl: severe (174): SIGSEGV, segmentation fault occurred")
assert all(Path(name).exists() for name in ("INCAR", "POTCAR", "KPOINTS")) or "KSPACING" in Path("INCAR").read_text()
atoms = read("POSCAR")
forces = np.zeros((len(atoms), 3))
forces[0, 0], forces[-1, 0] = 0.25, -0.25
n_steps = 200 if fate == "unconverged" else 12
symbols = list(dict.fromkeys(atoms.symbols))
reciprocal = atoms.cell.reciprocal()
rows = lambda *arrays: [" ".join(f"{x:14.9f}" for x in np.concatenate(row)) for row in zip(*arrays)]
lines = [" vasp.6.4.2 20Jul23 (build Oct 10 2023) complex"]
lines += [f" POTCAR:    PAW_PBE {symbol} 05Jan2001" for symbol in symbols]
lines += [f"   ions per type =  {' '.join(str(list(atoms.symbols).count(symbol)) for symbol in symbols)}"]
lines += ["   NELM   =    200;   NELMIN=  2; NELMDL= -5     # of ELM steps", "   ISPIN  =      1", "   NKPTS =      1  NBANDS=   8"]
lines += ["      direct lattice vectors                 reciprocal lattice vectors", *rows(atoms.cell, reciprocal)]
lines += [f"---------------- Iteration      1({k + 1:4d})  ---------------" for k in range(n_steps)]
lines += ["---------- aborting loop because EDIFF is reached ----------"] if fate == "ok" else []
lines += ["  in kB       -10.00000    -20.00000    -30.00000     1.00000     2.00000     3.00000"]
lines += [" POSITION                                       TOTAL-FORCE (eV/Angst)", " ---", *rows(atoms.positions, forces), " ---"]
lines += ["  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)", "  -----", "  free  energy   TOTEN  =       -10.85 eV", ""]
lines += ["  energy  without entropy=      -10.84000000  energy(sigma->0) =      -10.84500000", ""]
Path("OUTCAR").write_text("\\n".join(lines) + "\\n")
table = lambda name, array: f"<varray name='{name}'>" + "".join(f"<v>{row}</v>" for row in rows(array)) + "</varray>"
structure = (
    f"<crystal>{table('basis', atoms.cell)}{table('rec_basis', reciprocal)}</crystal>"
    + table("positions", atoms.get_scaled_positions(wrap=False))
)
names = "".join(f"<rc><c>{symbol}</c><c>1</c></rc>" for symbol in atoms.symbols)
energy = "<energy><i name='e_fr_energy'>-10.85</i><i name='e_wo_entrp'>-10.84</i><i name='e_0_energy'>-10.845</i></energy>"
Path("vasprun.xml").write_text(
    "<modeling><kpoints><varray name='kpointlist'><v>0 0 0</v></varray><varray name='weights'><v>1</v></varray></kpoints>"
    "<parameters><i name='NELM'>200</i></parameters>"
    f"<atominfo><array name='atoms'><set>{names}</set></array></atominfo><structure name='initialpos'>{structure}</structure>"
    f"<calculation>{n_steps * f'<scstep>{energy}</scstep>'}<structure>{structure}</structure>{table('forces', forces)}"
    f"{table('stress', np.array([[-10, 1, 3], [1, -20, 2], [3, 2, -30]]))}{energy}</calculation>"
    f"<structure name='finalpos'>{structure}</structure></modeling>"
)
Path("CONTCAR").write_text(Path("POSCAR").read_text())
'''

AIMS = '''
import sys
import warnings
from pathlib import Path
from ase.io import read

warnings.simplefilter("ignore")
fate = (Path(__file__).parent / "fate").read_text()
if fate == "crash":
    print(" *** Error: keyword 'foo' not recognised in control.in")
    sys.exit("application called MPI_Abort(MPI_COMM_WORLD, 1)")
atoms = read("geometry.in", format="aims")
number = lambda *values: " ".join(f"{value:16.8f}" for value in values)
print("          Invoking FHI-aims ...")
print("  | Number of atoms                   :", len(atoms))
print("  | Number of spin channels           :        1")
print("  | Number of Kohn-Sham states (occupied + empty):       28")
print("  The structure contains        2 atoms,  and a total of         28.000 electrons.")
print("  Occupation type: Gaussian broadening, width =   0.050000 eV.")
print("  Input geometry:\\n  | Unit cell:")
for vector in atoms.cell:
    print("  |      ", number(*vector))
print("  | Atomic structure:\\n  |       Atom                x [A]            y [A]            z [A]")
for k, atom in enumerate(atoms):
    print(f"  | {k + 1:4d}: Species {atom.symbol:12s}", number(*atom.position))
print("\\n  Begin self-consistency loop: Initialization.\\n\\n          Begin self-consistency iteration #    1\\n")
if fate == "unconverged":
    print("  *** scf_solver: SCF cycle not converged. ***\\n          Have a nice day.")
    sys.exit()
print("  Self-consistency cycle converged.\\n  | Electronic free energy        :         -0.789100000000000E+04 eV")
print("\\n  Total atomic forces (unitary forces cleaned) [eV/Ang]:")
for k in range(len(atoms)):
    print(f"  | {k + 1:4d}", number(0.25 * (k == 0) - 0.25 * (k == len(atoms) - 1), 0, 0))
print("  |              Analytical stress tensor - Symmetrized                  |")
print("  |                  Cartesian components [eV/A**3]                     |\\n  +-----+\\n  |  x  y  z  |\\n  |  |")
for k, name in enumerate("xyz"):
    print(f"  |  {name}    ", number(*(0.001 * (k + 1) * (k == j) for j in range(3))), "|")
print("  |  |\\n  |  Pressure:      -0.00200000   [eV/A**3]  |\\n")
print("  Final output of selected total energy values:")
print("  | Total energy of the DFT / Hartree-Fock s.c.f. calculation      :           -7890.0 eV\\n          Have a nice day.")
'''
