/* pair_style mlpot: models of mlpot in LAMMPS. All physics is in mlpot_core.h; here are neighbour lists, units and communication. */
#ifdef PAIR_CLASS
// clang-format off
PairStyle(mlpot,PairMlpot);
// clang-format on
#else

#ifndef LMP_PAIR_MLPOT_H
#define LMP_PAIR_MLPOT_H

#include "mlpot_core.h"
#include "pair.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace LAMMPS_NS {

class PairMlpot : public Pair {
 public:
  explicit PairMlpot(class LAMMPS *);
  ~PairMlpot() override;

  void settings(int, char **) override;
  void coeff(int, char **) override;
  void init_style() override;
  double init_one(int, int) override;
  void compute(int, int) override;

  void *extract(const char *, int &) override;
  void *extract_peratom(const char *, int &) override;
  int pack_reverse_comm(int, int, double *) override;
  void unpack_reverse_comm(int, int *, double *) override;
  int pack_forward_comm(int, int *, double *, int, int *) override;
  void unpack_forward_comm(int, int, double *) override;
  double memory_usage() override;

 private:
  /* Some centres with all their neighbours, as the core takes them: centres first. Evaluation in such parts keeps the arrays of
   * pairs small whatever the number of atoms. */
  struct Part {
    std::vector<int> atoms; /* LAMMPS' index of each atom */
    std::vector<int32_t> numbers, neighbours;
    std::vector<int64_t> offsets;
    std::vector<double> vectors;
    mlpot_input input;
  };
  /* Per-centre contributions to the uncertainty, in the order of the neighbour list. */
  struct Contributions {
    std::vector<double> posterior, unexplained, novelty, strongest, crowding;
  };

  std::unique_ptr<mlpot_model, void (*)(mlpot_model *)> model;
  std::vector<int32_t> type_numbers; /* atomic number of each type; 0: not of this pair style */
  bool always_uncertain = false, is_uncertain = false, has_computed = false;
  int n_threads = 0; /* 0: as many as LAMMPS uses */
  double energy_unit = 1.0;
  std::map<std::string, int> triggers; /* set by fix pair: the uncertainty is wanted in this step */

  Part part;
  std::vector<int> place; /* of LAMMPS' atoms in the part, -1 elsewhere */
  std::vector<double> energies, forces, virials, pair_gradients, part_members, covariances;
  Contributions found;
  std::vector<double> members, owed; /* of all atoms, ghosts too */

  int n_allocated = 0;
  double *sigma = nullptr, *novelty = nullptr, *energies_std = nullptr, **forces_std = nullptr;

  void allocate();
  void read_elements(int, char **);
  void check_neighbours();
  bool has_force_deviations() const;
  int part_size() const;
  void gather(int, int);
  void evaluate(int);
  mlpot_uncertainty contributions(int);
  void tally(const mlpot_output &);
  void tally_centroids();
  void prepare_uncertainty();
  void grow_peratom();
  void store_deviations();
  void share_deviations();
  void check(int, const char *);
};

} // namespace LAMMPS_NS

#endif
#endif
