"""Build of the compiled half: cython_ext/*.pyx over the plain C of cython_ext/core becomes mlpot._ext.*"""

import os
import platform
import shutil
import tempfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

SOURCE = Path("cython_ext")
CORE = sorted(str(path) for path in (SOURCE / "core").glob("*.c"))
CORE_HEADERS = sorted(str(path) for path in (SOURCE / "core").glob("*.h"))
SANITIZE = os.environ.get("MLPOT_SANITIZE") == "1"
"""Extensions that stop the program at the first access out of bounds, and at undefined behaviour; see .ci/sanitize."""
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g", "-O1"]
DEBUG = os.environ.get("MLPOT_CYTHON_DEBUG") == "1"
"""Extensions that raise at an index out of bounds and at an array that is not there; slow, for `make debug`."""

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "nonecheck": DEBUG,
    "cdivision": True,
    "embedsignature": True,
    "freethreading_compatible": True,
}


def extension(name):
    """Extension mlpot._ext.<name>."""
    return Extension(
        f"mlpot._ext.{name}",
        [str(SOURCE / f"{name}.pyx")],
        depends=CORE + CORE_HEADERS + sorted(str(path) for path in SOURCE.glob("*.px[di]")),
        include_dirs=[str(SOURCE / "core"), numpy.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
    )


class BuildExt(build_ext):
    """Adds optimisation flags, and OpenMP where the compiler has it (Apple's clang does not); compiles the core."""

    def finalize_options(self):
        super().finalize_options()
        if self.parallel is None:
            self.parallel = os.cpu_count()

    def build_extensions(self):
        flags = [
            "-std=gnu11",
            "-O3",
            "-fno-math-errno",
            "-fno-trapping-math",
            "-ffp-contract=fast",
            "-Wall",
            "-Wno-unused-function",
            "-Wno-unknown-pragmas",
            "-Wno-psabi",
            "-Wno-maybe-uninitialized",
        ]
        watch = SANITIZERS if SANITIZE else ["-O1"] if DEBUG else []
        openmp = ["-fopenmp"] if self.accepts("-fopenmp") else []
        for ext in self.extensions:
            ext.extra_compile_args = flags + openmp + watch
            ext.extra_link_args = (SANITIZERS[:1] if SANITIZE else []) + openmp + ([] if platform.system() == "Darwin" else ["-lm"])
        (user,) = (ext for ext in self.extensions if ext.name == "mlpot._ext.core")
        if self.is_due(user) or not self.archive().exists():
            user.extra_objects = self.compiled_core(flags + openmp + watch)
            self.archive().parent.mkdir(parents=True, exist_ok=True)
            self.archive().unlink(missing_ok=True)  # or objects of sources that are gone would stay in it
            self.compiler.create_static_lib(user.extra_objects, "mlpot_core", output_dir=str(self.archive().parent))
        super().build_extensions()

    def archive(self):
        """The core as a static library, for programs in C and C++: `mlpot lammps build` links it in seconds."""
        return Path(self.build_lib, "mlpot", "_ext", "libmlpot_core.a")

    def copy_extensions_to_source(self):
        """For `--inplace` and editable installs."""
        super().copy_extensions_to_source()
        shutil.copy2(self.archive(), self.get_finalized_command("build_py").get_package_dir("mlpot._ext"))

    def is_due(self, ext):
        """Whether an extension is older than what it is made of."""
        built = Path(self.get_ext_fullpath(ext.name))
        made_of = [Path(file).stat().st_mtime for file in ext.sources + ext.depends]
        return self.force or not built.exists() or max(made_of) > built.stat().st_mtime

    def compiled_core(self, flags):
        """Object files of the core, in a folder of this compiler and these flags: its larger files take a minute each, so those
        that are newer than their source are kept, also from one `pip install` to the next."""
        command = repr((self.compiler.compiler_so, flags)).encode()
        folder = Path("build", f"core-{zlib.crc32(command):08x}")
        headers = max(Path(file).stat().st_mtime for file in CORE_HEADERS)

        def compiled(file):
            (name,) = self.compiler.object_filenames([file], output_dir=str(folder))
            newest = max(headers, Path(file).stat().st_mtime)
            if self.force or not Path(name).exists() or Path(name).stat().st_mtime < newest:
                self.compiler.compile([file], str(folder), include_dirs=[str(SOURCE / "core")], extra_postargs=flags)
            return name

        with ThreadPoolExecutor(self.parallel) as pool:
            return list(pool.map(compiled, CORE))

    def accepts(self, flag):
        """Whether a program that uses OpenMP compiles and links with `flag`."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text("#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n")
            try:
                objects = self.compiler.compile([str(source)], output_dir=folder, extra_postargs=[flag])
                self.compiler.link_executable(objects, str(Path(folder, "probe")), extra_postargs=[flag])
            except Exception as error:
                self.announce(f"OpenMP is not available, building for one thread: {error}", level=2)
                return False
        return True


class BuildPy(build_py):
    """Adds the C sources of the core, from which `mlpot lammps build` and its CMake file compile the pair style for a cluster."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        folder = Path(self.build_lib, "mlpot", "lammps", "core")
        folder.mkdir(parents=True, exist_ok=True)
        for file in CORE + CORE_HEADERS:
            shutil.copy2(file, folder)


setup(
    ext_modules=cythonize(
        [
            extension("pair_list"),
            extension("pair_gradients"),
            extension("core"),
        ],
        include_path=[str(SOURCE)],
        compiler_directives=DIRECTIVES,
    ),
    cmdclass={"build_ext": BuildExt, "build_py": BuildPy},
)
