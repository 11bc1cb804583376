/* pair_style mlpot [uncertainty yes|no] [threads N]
 * pair_coeff * * model.mlpot El1 El2 ...        one element, or NULL, for each atom type */
#include "pair_mlpot.h"

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "memory.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "platform.h"
#include "update.h"
#include "utils.h"

#include <algorithm>
#include <cmath>
#include <cstring>

using namespace LAMMPS_NS;

namespace {

/* Centres evaluated at a time by each thread: their pairs stay in the cache, and threads seldom wait for each other. */
constexpr int CENTRES_PER_THREAD = 512;
constexpr int PER_ATOM = 3 * MLPOT_MEMBERS;
constexpr size_t ERROR_SIZE = 512;

const char *const SYMBOLS[] = {
    "",   "H",  "He", "Li", "Be", "B",  "C",  "N",  "O",  "F",  "Ne", "Na", "Mg", "Al", "Si", "P",  "S",  "Cl", "Ar", "K",
    "Ca", "Sc", "Ti", "V",  "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga", "Ge", "As", "Se", "Br", "Kr", "Rb", "Sr", "Y",
    "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd", "In", "Sn", "Sb", "Te", "I",  "Xe", "Cs", "Ba", "La", "Ce", "Pr",
    "Nd", "Pm", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb", "Lu", "Hf", "Ta", "W",  "Re", "Os", "Ir", "Pt", "Au",
    "Hg", "Tl", "Pb", "Bi", "Po", "At", "Rn", "Fr", "Ra", "Ac", "Th", "Pa", "U",  "Np", "Pu", "Am", "Cm", "Bk", "Cf", "Es",
    "Fm", "Md", "No", "Lr", "Rf", "Db", "Sg", "Bh", "Hs", "Mt", "Ds", "Rg", "Cn", "Nh", "Fl", "Mc", "Lv", "Ts", "Og"};
constexpr int N_SYMBOLS = sizeof SYMBOLS / sizeof *SYMBOLS;

int32_t atomic_number(const char *symbol)
{
  for (int z = 1; z < N_SYMBOLS; ++z)
    if (strcmp(symbol, SYMBOLS[z]) == 0) return z;
  return 0;
}

bool knows(const mlpot_model *model, int32_t number)
{
  const int32_t *species = mlpot_species(model);
  return std::find(species, species + mlpot_n_species(model), number) != species + mlpot_n_species(model);
}

std::string elements_of(const mlpot_model *model)
{
  std::string names;
  for (int k = 0; k < mlpot_n_species(model); ++k) names += std::string(k ? " " : "") + SYMBOLS[mlpot_species(model)[k]];
  return names;
}

} // namespace

PairMlpot::PairMlpot(LAMMPS *lmp) : Pair(lmp), model(nullptr, mlpot_free)
{
  single_enable = 0;
  restartinfo = 0;
  one_coeff = 1;
  manybody_flag = 1;
  no_virial_fdotr_compute = 1; // the core computes the virial, also where forces of several styles are added
  centroidstressflag = CENTROID_AVAIL;
  comm_reverse = PER_ATOM;
  comm_forward = 1;
  triggers = {{"sigma_flag", 0}, {"novelty_flag", 0}, {"energies_std_flag", 0}, {"forces_std_flag", 0}};
}

PairMlpot::~PairMlpot()
{
  if (copymode) return;
  if (allocated) {
    memory->destroy(setflag);
    memory->destroy(cutsq);
  }
  memory->destroy(sigma);
  memory->destroy(novelty);
  memory->destroy(energies_std);
  memory->destroy(forces_std);
}

void PairMlpot::allocate()
{
  const int n = atom->ntypes + 1;
  memory->create(setflag, n, n, "pair:setflag");
  memory->create(cutsq, n, n, "pair:cutsq");
  for (int i = 0; i < n; ++i) std::fill_n(setflag[i], n, 0);
  allocated = 1;
}

void PairMlpot::settings(int narg, char **arg)
{
  always_uncertain = false;
  n_threads = 0;
  for (int k = 0; k < narg; k += 2) {
    const std::string key = arg[k];
    if (key != "uncertainty" && key != "threads")
      error->all(FLERR, "pair_style mlpot: unknown keyword " + key + "; there are 'uncertainty yes|no' and 'threads N'");
    if (k + 1 == narg) error->all(FLERR, "pair_style mlpot: " + key + " needs a value");
    if (key == "uncertainty") always_uncertain = utils::logical(FLERR, arg[k + 1], false, lmp) == 1;
    if (key == "threads") n_threads = utils::inumeric(FLERR, arg[k + 1], false, lmp);
    if (key == "threads" && n_threads < 1) error->all(FLERR, "pair_style mlpot: threads must be at least 1");
  }
}

void PairMlpot::coeff(int narg, char **arg)
{
  if (narg != 3 + atom->ntypes || strcmp(arg[0], "*") != 0 || strcmp(arg[1], "*") != 0)
    error->all(FLERR, "pair_coeff of mlpot: give '* * model.mlpot' and an element, or NULL, for each of the "
                          + std::to_string(atom->ntypes) + " atom types");
  const std::string path = utils::get_potential_file_path(arg[2]);
  if (path.empty())
    error->all(FLERR, "pair_coeff of mlpot: " + std::string(arg[2])
                          + " is not there; write it with 'mlpot export-lammps model.h5 -o " + arg[2] + "'");
  if (platform::path_is_directory(path)) error->all(FLERR, "pair_coeff of mlpot: " + path + " is a folder; name a model file");
  char text[ERROR_SIZE] = "";
  model.reset(mlpot_load(path.c_str(), text, sizeof text));
  if (!model) error->all(FLERR, "pair_coeff of mlpot: " + std::string(text));
  if (!allocated) allocate();
  read_elements(narg - 3, arg + 3);
}

void PairMlpot::read_elements(int n_types, char **names)
{
  type_numbers.assign(n_types + 1, 0);
  for (int k = 0; k < n_types; ++k) {
    if (strcmp(names[k], "NULL") == 0) continue;
    type_numbers[k + 1] = atomic_number(names[k]);
    if (!type_numbers[k + 1] || !knows(model.get(), type_numbers[k + 1]))
      error->all(FLERR, "pair_coeff of mlpot: " + std::string(names[k]) + " of atom type " + std::to_string(k + 1)
                            + " is not in the model, which knows " + elements_of(model.get()));
  }
  for (int i = 1; i <= n_types; ++i)
    for (int j = i; j <= n_types; ++j) setflag[i][j] = type_numbers[i] && type_numbers[j];
}

void PairMlpot::init_style()
{
  const std::string units = update->unit_style;
  if (units != "metal" && units != "real")
    error->all(FLERR, "pair_style mlpot needs units metal or real, not " + units);
  energy_unit = units == "real" ? utils::get_conversion_factor(utils::ENERGY, utils::METAL2REAL) : 1.0;
  if (!force->newton_pair) error->all(FLERR, "pair_style mlpot needs newton on for pairs: forces on ghost atoms are sent back");
  if (always_uncertain && mlpot_n_representatives(model.get()) < 0)
    error->all(FLERR, "pair_style mlpot: the model file was exported without uncertainty; export it again, or use 'uncertainty no'");
  check_neighbours();
  neighbor->add_request(this, NeighConst::REQ_FULL);
}

/* A many-body model needs all neighbours, bonded ones too. */
void PairMlpot::check_neighbours()
{
  for (int k = 1; k < 4; ++k)
    if (atom->nbonds > 0 && force->special_lj[k] == 0.0 && force->special_coul[k] == 0.0)
      error->all(FLERR, "pair_style mlpot: special_bonds takes bonded neighbours away; set 'special_bonds lj/coul 1.0 1.0 1.0'");
  if (neighbor->exclude && comm->me == 0)
    error->warning(FLERR, "pair_style mlpot: neigh_modify exclude takes neighbours away, and forces differ from the model's");
}

double PairMlpot::init_one(int, int) { return mlpot_cutoff(model.get()); }

void PairMlpot::check(int status, const char *text)
{
  if (status != MLPOT_OK) error->one(FLERR, "pair_style mlpot, step " + std::to_string(update->ntimestep) + ": " + text);
}

bool PairMlpot::has_force_deviations() const { return model && mlpot_n_representatives(model.get()) > 0; }

int PairMlpot::part_size() const { return CENTRES_PER_THREAD * (n_threads ? n_threads : comm->nthreads); }

void PairMlpot::compute(int eflag, int vflag)
{
  ev_init(eflag, vflag);
  is_uncertain = always_uncertain;
  for (const auto &trigger : triggers) is_uncertain = is_uncertain || trigger.second;
  has_computed = true;
  place.assign(atom->nlocal + atom->nghost, -1);
  if (is_uncertain) prepare_uncertainty();
  for (int first = 0; first < list->inum; first += part_size()) {
    gather(first, std::min(first + part_size(), list->inum));
    evaluate(first);
  }
  if (!is_uncertain) return;
  if (has_force_deviations()) comm->reverse_comm(this);
  store_deviations();
  if (!has_force_deviations()) return;
  comm->forward_comm(this);
  share_deviations();
}

/* The part with centres `first` to `last` - 1 of the neighbour list. */
void PairMlpot::gather(int first, int last)
{
  const double *const *x = atom->x, cutoff_square = pow(mlpot_cutoff(model.get()), 2);
  part.atoms.assign(list->ilist + first, list->ilist + last);
  part.offsets.assign(1, 0);
  part.neighbours.clear();
  part.vectors.clear();
  for (int k = 0; k < last - first; ++k) place[part.atoms[k]] = k;
  for (int ii = first; ii < last; ++ii) {
    const int i = list->ilist[ii];
    for (int jj = 0; jj < list->numneigh[i]; ++jj) {
      const int j = list->firstneigh[i][jj] & NEIGHMASK;
      const double v[3] = {x[j][0] - x[i][0], x[j][1] - x[i][1], x[j][2] - x[i][2]};
      if (v[0] * v[0] + v[1] * v[1] + v[2] * v[2] >= cutoff_square || !type_numbers[atom->type[j]]) continue;
      if (place[j] < 0) {
        place[j] = static_cast<int>(part.atoms.size());
        part.atoms.push_back(j);
      }
      part.neighbours.push_back(place[j]);
      part.vectors.insert(part.vectors.end(), v, v + 3);
    }
    part.offsets.push_back(static_cast<int64_t>(part.neighbours.size()));
  }
  part.numbers.clear();
  for (const int i : part.atoms) {
    part.numbers.push_back(type_numbers[atom->type[i]]);
    place[i] = -1;
  }
  part.input = {};
  part.input.size = sizeof part.input;
  part.input.n_centres = last - first;
  part.input.n_atoms = static_cast<int64_t>(part.atoms.size());
  part.input.numbers = part.numbers.data();
  part.input.offsets = part.offsets.data();
  part.input.neighbours = part.neighbours.data();
  part.input.vectors = part.vectors.data();
  part.input.n_threads = n_threads ? n_threads : comm->nthreads;
}

/* Energies, forces and virials of the part; contributions to the uncertainty are those of centres from `first` on. */
void PairMlpot::evaluate(int first)
{
  const size_t n = part.offsets.size() - 1;
  energies.resize(n);
  forces.resize(3 * part.atoms.size());
  mlpot_output out = {};
  out.size = sizeof out;
  out.energies = energies.data();
  out.forces = forces.data();
  if (vflag_atom) virials.resize(9 * n);
  if (vflag_atom) out.virials = virials.data();
  if (cvflag_atom) pair_gradients.resize(part.vectors.size());
  if (cvflag_atom) out.pair_gradients = pair_gradients.data();
  mlpot_uncertainty parts = {};
  if (is_uncertain) {
    part_members.resize(PER_ATOM * part.atoms.size());
    parts = contributions(first);
    out.uncertainty = &parts;
  }
  char text[ERROR_SIZE] = "";
  check(mlpot_evaluate(model.get(), &part.input, &out, text, sizeof text), text);
  tally(out);
  for (size_t k = 0; is_uncertain && k < part.atoms.size(); ++k)
    for (int m = 0; m < PER_ATOM; ++m) members[PER_ATOM * static_cast<size_t>(part.atoms[k]) + m] += part_members[PER_ATOM * k + m];
}

/* The arrays of the part whose first centre is `first`. */
mlpot_uncertainty PairMlpot::contributions(int first)
{
  mlpot_uncertainty parts = {};
  parts.size = sizeof parts;
  parts.posterior = found.posterior.data() + first;
  parts.unexplained = found.unexplained.data() + first;
  parts.novelty = found.novelty.data() + first;
  parts.strongest = found.strongest.data() + first;
  parts.crowding = found.crowding.data() + first;
  parts.member_forces = part_members.data();
  parts.covariances = covariances.data();
  return parts;
}

void PairMlpot::tally(const mlpot_output &out)
{
  static const int order[6] = {0, 4, 8, 1, 2, 5}; // xx yy zz xy xz yz in a matrix by rows
  for (size_t k = 0; k < part.atoms.size(); ++k)
    for (int c = 0; c < 3; ++c) atom->f[part.atoms[k]][c] += energy_unit * forces[3 * k + c];
  for (size_t k = 0; k + 1 < part.offsets.size(); ++k) {
    if (eflag_global) eng_vdwl += energy_unit * energies[k];
    if (eflag_atom) eatom[part.atoms[k]] += energy_unit * energies[k];
    for (int c = 0; vflag_atom && c < 6; ++c) vatom[part.atoms[k]][c] += energy_unit * virials[9 * k + order[c]];
  }
  for (int c = 0; vflag_global && c < 6; ++c) virial[c] += energy_unit * out.virial[order[c]];
  if (cvflag_atom) tally_centroids();
}

/* The virial by the atom on which the force acts, not by the atom whose energy gives it: with it the heat flux of compute
 * heat/flux is right for many-body potentials, see doi:10.1103/PhysRevB.92.094301. */
void PairMlpot::tally_centroids()
{
  static const int rows[9] = {0, 1, 2, 0, 0, 1, 1, 2, 2}, columns[9] = {0, 1, 2, 1, 2, 2, 0, 0, 1};
  for (size_t p = 0; p < part.neighbours.size(); ++p) {
    double *own = cvatom[part.atoms[part.neighbours[p]]];
    for (int c = 0; c < 9; ++c) own[c] -= energy_unit * part.vectors[3 * p + rows[c]] * pair_gradients[3 * p + columns[c]];
  }
}

void PairMlpot::prepare_uncertainty()
{
  if (mlpot_n_representatives(model.get()) < 0) error->all(FLERR, "pair_style mlpot: the model file was exported without uncertainty");
  grow_peratom();
  for (auto *values : {&found.posterior, &found.unexplained, &found.novelty, &found.strongest, &found.crowding})
    values->resize(list->inum);
  members.assign(PER_ATOM * static_cast<size_t>(atom->nlocal + atom->nghost), 0.0);
  owed.assign(atom->nlocal + atom->nghost, 0.0);
  covariances.resize(mlpot_n_representatives(model.get()) + 1);
}

void PairMlpot::grow_peratom()
{
  if (n_allocated < atom->nmax || !sigma) {
    n_allocated = std::max(atom->nmax, 1);
    memory->grow(sigma, n_allocated, "pair:sigma");
    memory->grow(novelty, n_allocated, "pair:novelty");
    memory->grow(energies_std, n_allocated, "pair:energies_std");
    memory->grow(forces_std, n_allocated, 3, "pair:forces_std");
  }
  for (double *values : {sigma, novelty, energies_std, forces_std[0]})
    std::fill_n(values, (values == forces_std[0] ? 3 : 1) * static_cast<size_t>(n_allocated), 0.0);
}

/* Deviations of each atom by itself, once all contributions to the members' forces are together. */
void PairMlpot::store_deviations()
{
  std::vector<double> own_energies, own_forces, own_owed;
  const bool of_forces = has_force_deviations();
  for (int first = 0; first < list->inum; first += part_size()) {
    const int n = std::min(part_size(), list->inum - first);
    part.numbers.resize(n);
    part_members.resize(PER_ATOM * static_cast<size_t>(n));
    for (int k = 0; k < n; ++k) {
      const int i = list->ilist[first + k];
      part.numbers[k] = type_numbers[atom->type[i]];
      std::copy_n(&members[PER_ATOM * static_cast<size_t>(i)], PER_ATOM, &part_members[PER_ATOM * static_cast<size_t>(k)]);
    }
    part.input = {};
    part.input.size = sizeof part.input;
    part.input.n_centres = part.input.n_atoms = n;
    part.input.numbers = part.numbers.data();
    const mlpot_uncertainty parts = contributions(first);
    own_energies.resize(n);
    own_forces.resize(3 * static_cast<size_t>(n));
    own_owed.resize(n);
    char text[ERROR_SIZE] = "";
    check(mlpot_deviations(model.get(), &part.input, &parts, own_energies.data(), of_forces ? own_forces.data() : nullptr,
                           of_forces ? own_owed.data() : nullptr, text, sizeof text), text);
    for (int k = 0; k < n; ++k) {
      const int i = list->ilist[first + k];
      novelty[i] = found.novelty[first + k];
      energies_std[i] = energy_unit * own_energies[k];
      if (!of_forces) continue;
      owed[i] = own_owed[k];
      std::copy_n(&own_forces[3 * static_cast<size_t>(k)], 3, forces_std[i]);
    }
  }
}

/* Deviations of atoms beside uncertain atoms of other elements, once these have sent what they owe. */
void PairMlpot::share_deviations()
{
  std::vector<double> own, lent;
  for (int first = 0; first < list->inum; first += part_size()) {
    const int n = std::min(part_size(), list->inum - first);
    gather(first, first + n);
    own.resize(3 * static_cast<size_t>(n));
    lent.clear();
    for (const int i : part.atoms) lent.push_back(owed[i]);
    for (int k = 0; k < n; ++k) std::copy_n(forces_std[part.atoms[k]], 3, &own[3 * static_cast<size_t>(k)]);
    char text[ERROR_SIZE] = "";
    check(mlpot_share_deviations(model.get(), &part.input, lent.data(), own.data(), text, sizeof text), text);
    for (int k = 0; k < n; ++k) {
      const int i = part.atoms[k];
      double square = 0.0;
      for (int c = 0; c < 3; ++c) {
        forces_std[i][c] = energy_unit * own[3 * static_cast<size_t>(k) + c];
        square += forces_std[i][c] * forces_std[i][c];
      }
      sigma[i] = sqrt(square / 3.0);
    }
  }
}

/* What fix pair sets to have the uncertainty in its steps only: 'fix s all pair 10 mlpot sigma 1'. */
void *PairMlpot::extract(const char *name, int &dim)
{
  dim = 0;
  const auto trigger = triggers.find(name);
  return trigger == triggers.end() ? nullptr : &trigger->second;
}

/* fix pair asks for the names when it is made, before anything is computed, and then after each step. */
void *PairMlpot::extract_peratom(const char *name, int &columns)
{
  const std::string wanted = name;
  columns = wanted == "forces_std" ? 3 : 0;
  if (!model || mlpot_n_representatives(model.get()) < 0 || (has_computed && update->whichflag && !is_uncertain)) return nullptr;
  if (wanted != "energies_std" && !has_force_deviations()) return nullptr;
  if (!sigma) grow_peratom();
  if (wanted == "sigma") return sigma;
  if (wanted == "novelty") return novelty;
  if (wanted == "energies_std") return energies_std;
  return wanted == "forces_std" ? static_cast<void *>(forces_std) : nullptr;
}

int PairMlpot::pack_reverse_comm(int n, int first, double *buf)
{
  std::copy_n(&members[PER_ATOM * static_cast<size_t>(first)], PER_ATOM * static_cast<size_t>(n), buf);
  return PER_ATOM * n;
}

void PairMlpot::unpack_reverse_comm(int n, int *atoms, double *buf)
{
  for (int k = 0; k < n; ++k)
    for (int m = 0; m < PER_ATOM; ++m) members[PER_ATOM * static_cast<size_t>(atoms[k]) + m] += *buf++;
}

int PairMlpot::pack_forward_comm(int n, int *atoms, double *buf, int, int *)
{
  for (int k = 0; k < n; ++k) buf[k] = owed[atoms[k]];
  return n;
}

void PairMlpot::unpack_forward_comm(int n, int first, double *buf) { std::copy_n(buf, n, &owed[first]); }

double PairMlpot::memory_usage()
{
  double bytes = Pair::memory_usage() + sizeof(int) * static_cast<double>(place.capacity());
  for (const auto *values : {&energies, &forces, &virials, &pair_gradients, &part_members, &members, &owed, &part.vectors})
    bytes += sizeof(double) * static_cast<double>(values->capacity());
  return bytes + 6.0 * sizeof(double) * n_allocated;
}
