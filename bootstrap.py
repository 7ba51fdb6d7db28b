"""Make the environment, or take it away: what the Makefile runs before anything of this project can run.

Only the standard library, and only syntax that Python 2.7 reads too: an old interpreter shall get as far as the
sentence that says so.

    python3 bootstrap.py          make .venv if it is missing or no longer right
    python3 bootstrap.py clean    remove .venv and .linli, unless something runs on them
"""

from __future__ import print_function

import hashlib
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.abspath(__file__))
OLDEST = (3, 11)
NEWER_NAMES = ["python3.14", "python3.13", "python3.12", "python3.11"]


class Refused(Exception):
    """Why it cannot go on, as one sentence for the person at the keyboard."""


def require_python(version_info, find=None):
    """Give the path of a new enough Python to go on with, or None when the running one is."""
    if tuple(version_info[:2]) >= OLDEST:
        return None
    for name in NEWER_NAMES:
        path = (find or _on_path)(name)
        if path:
            return path
    raise Refused(
        "Linli needs Python %d.%d or newer, and this is %d.%d: install one, or say which: 'make PYTHON=python3.12 run'."
        % (OLDEST + tuple(version_info[:2]))
    )


def require_venv(load=__import__):
    """Refuse a Python whose distribution left out what makes virtual environments."""
    for module in ("venv", "ensurepip"):
        try:
            load(module)
        except ImportError:
            raise Refused(
                "This Python has no module '%s' to make an environment with: install it "
                "(on Debian and Ubuntu the package python%d.%d-venv) and try again."
                % (module, sys.version_info[0], sys.version_info[1])
            )


def environment(root=ROOT):
    """Make `.venv` hold exactly the pinned packages and this project; do nothing when its stamp says it does.

    The stamps are written last, so an interrupted try is made again from the start. A change of pyproject.toml alone
    needs no network.
    """
    require_venv()
    lock = _lock(root)
    try:
        folder = os.path.join(root, ".venv")
        packages = _digest(sys.version, os.path.realpath(sys.executable), folder, _content(root, "requirements.txt"))
        project = _digest(packages, _content(root, "pyproject.toml"), *_folders(root))
        if _stamp(folder, "packages") != packages:
            _install_packages(root, folder)
            _write_stamp(folder, "packages", packages)
        if _stamp(folder, "project") != project:
            _install_project(root, folder)
            _write_stamp(folder, "project", project)
    finally:
        os.close(lock)


def clean(root=ROOT):
    """Remove `.venv` and `.linli`, and end a PostgreSQL that was left on it; refuse while `linli up` runs."""
    state = os.path.join(root, ".linli")
    program = _program(os.path.join(root, ".venv"), "python")
    if os.path.isdir(state):
        _require_unused(os.path.join(state, "lock"))
        database = os.path.join(state, "postgres")
        if os.path.isdir(database) and os.path.exists(program):
            code = "import sys; from server.embedded_postgres import remove_files; remove_files(sys.argv[1])"
            if subprocess.call([program, "-c", code, database], cwd=root) != 0:
                raise Refused("The database in %s could not be removed." % database)
        shutil.rmtree(state)
    shutil.rmtree(os.path.join(root, ".venv"), ignore_errors=True)
    print("Removed .venv and .linli.")


def _install_packages(root, folder):
    print("Making the Python environment in .venv (once; a minute or two) ...")
    sys.stdout.flush()
    _run([sys.executable, "-m", "venv", "--clear", folder], "The environment could not be made in %s" % folder)
    wanted = os.path.join(root, "requirements.txt")
    with open(wanted) as lines:
        count = len([line for line in lines if "==" in line and not line.startswith("#")])
    print("Installing %d pinned packages ..." % count)
    sys.stdout.flush()
    _pip(folder, ["-r", wanted], "The packages could not be installed (is there a network?)")


def _install_project(root, folder):
    _pip(folder, ["--no-deps", "--no-build-isolation", "-e", root], "This project could not be installed into .venv")


def _pip(folder, arguments, sentence):
    quiet = ["--quiet", "--no-input", "--disable-pip-version-check", "--root-user-action=ignore"]
    _run([_program(folder, "python"), "-m", "pip", "install"] + quiet + arguments, sentence)


def _run(command, sentence):
    """Run silently; when it fails, show the end of what it said under our own sentence."""
    clean = dict((name, value) for name, value in os.environ.items() if name not in ("PYTHONHOME", "PYTHONPATH"))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=clean)
    said = process.communicate()[0].decode("utf-8", "replace").strip().splitlines()
    if process.returncode != 0:
        raise Refused("\n".join([sentence + "; the last it said:"] + ["    " + line for line in said[-8:]]))


def _require_unused(lock):
    import fcntl

    try:
        descriptor = os.open(lock, os.O_RDWR)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (IOError, OSError):
        raise Refused("Linli runs here: stop it first (Ctrl-C where it runs).")
    finally:
        os.close(descriptor)


def _lock(root):
    """Two makes at once: the second waits for the first. The lock is on the folder itself and leaves no file."""
    import fcntl

    descriptor = os.open(root, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def _program(folder, name):
    return os.path.join(folder, "bin", name)


def _digest(*parts):
    return hashlib.sha256("\0".join(parts).encode("utf-8")).hexdigest()


def _content(root, name):
    with open(os.path.join(root, name), "rb") as file:
        return file.read().decode("utf-8")


def _folders(root):
    """The top folders: the installed project knows each by name, so a new one must be made known to it."""
    names = [name for name in os.listdir(root) if name[0] not in "._" and "." not in name]
    return sorted(name for name in names if os.path.isdir(os.path.join(root, name)))


def _stamp(folder, name):
    try:
        with open(os.path.join(folder, "stamp-" + name)) as file:
            return file.read() if os.path.exists(_program(folder, "python")) else ""
    except (IOError, OSError):
        return ""


def _write_stamp(folder, name, value):
    path = os.path.join(folder, "stamp-" + name)
    with open(path + ".new", "w") as file:
        file.write(value)
    os.rename(path + ".new", path)


def _on_path(name):
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        path = os.path.join(folder, name)
        if folder and os.access(path, os.X_OK) and not os.path.isdir(path) and _works(path):
            return path
    return None


def _works(path):
    """Whether it is a Python indeed: version managers put empty names on the PATH."""
    code = "import sys; sys.exit(sys.version_info < (%d, %d))" % OLDEST
    try:
        process = subprocess.Popen([path, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except OSError:
        return False
    process.communicate()
    return process.returncode == 0


def main(arguments):
    """Do what is asked; on a refusal print its one sentence and return 1."""
    try:
        better = require_python(sys.version_info)
        if better:
            return subprocess.call([better, os.path.abspath(__file__)] + arguments)
        if arguments == ["clean"]:
            clean()
        else:
            environment()
    except Refused as refusal:
        sys.stderr.write("%s\n" % refusal)
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted; the next try begins anew.\n")
        return 130
    except (IOError, OSError) as error:
        sys.stderr.write("The environment could not be made: %s.\n" % error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
