/* Types of MPICH's ABI that LAMMPS' headers name, for machines without mpi.h: the plugin itself calls no MPI function. */
#ifndef MLPOT_MPI_STUB
#define MLPOT_MPI_STUB
typedef int MPI_Comm;
typedef int MPI_Datatype;
typedef int MPI_Op;
typedef int MPI_Request;
typedef int MPI_Info;
typedef int MPI_Fint;
typedef long MPI_Aint;
#endif
