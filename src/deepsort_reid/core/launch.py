"""Who has started this process as one of several that train together, by the environment."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from deepsort_reid.core.errors import TrainingError

LOOPBACK, PORT = "127.0.0.1", 29500  # the port is torch's own default
HERE = ("localhost", LOOPBACK, "::1")  # what names this machine, on any machine
FIRST_WORD = 5.0  # seconds of waiting for others before a word is said
PATIENCE = 120.0  # seconds that others have to come
SPECIAL_STEPS = 0xFFFFFFF0  # SLURM's numbers of batch, interactive and other shells begin here

# For each launcher: rank, number of ranks, rank on this machine, number of ranks on it.
TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")  # and Kubeflow's operators
OPEN_MPI = tuple(f"OMPI_COMM_WORLD_{name}" for name in ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE"))
MPICH = ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS")
SLURM = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_NTASKS_PER_NODE")
STEP_TASKS = "SLURM_STEP_NUM_TASKS"  # of the step; the other may be the job's


class Launch(NamedTuple):
    """This process among those that train together; the default is alone.

    Attributes:
        rank: among all processes, 0 to world_size - 1.
        local_rank: among those of this machine.
        world_size: how many there are.
        local_world_size: how many there are on this machine.
        address: the machine of rank 0, where all meet.
        port: at which rank 0 waits there.
    """

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    local_world_size: int = 1
    address: str = LOOPBACK
    port: int = PORT

    @property
    def is_on_one_machine(self) -> bool:
        """Whether all processes run on this machine."""
        return self.local_world_size == self.world_size


def read_launch(environ: Mapping[str, str]) -> Launch:
    """Read the variables of torchrun, Kubeflow's operators, Open MPI, SLURM's `srun` and MPICH.

    Where all processes run on one machine, they meet at the loopback address, which needs no name
    server. Elsewhere `MASTER_ADDR` and `MASTER_PORT` say where; `srun` does not set them, and every
    process derives the same ones: the first host, and a port from the numbers of job and step.

    Raises:
        TrainingError: a variable is missing, is no number, or does not fit the others.
    """
    names = variables(environ)
    if not names:
        return Launch()
    rank, world_size = (whole_number(environ, name, names) for name in names[:2])
    if world_size == 1 and rank == 0:
        return Launch()
    local_rank, local_world_size = place_on_machine(environ, names, rank, world_size)
    launch = Launch(rank, local_rank, world_size, local_world_size)
    if not (0 <= local_rank <= rank < world_size and local_rank < local_world_size <= world_size):
        given = ", ".join(f"{name}={environ[name]}" for name in names if name in environ)
        raise TrainingError(f"the environment has {given}, which do not fit; {hint(names)}")
    return launch._replace(address=address_of(environ, launch, names), port=port_of(environ, names))


def variables(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The names of the variables that count; none if no launcher has started this process."""
    if TORCHRUN[0] in environ:
        return TORCHRUN
    if OPEN_MPI[0] in environ:
        return OPEN_MPI
    if "SLURM_JOB_ID" in environ or SLURM[0] in environ:
        counted = (SLURM[0], STEP_TASKS, *SLURM[2:]) if STEP_TASKS in environ else SLURM
        return counted if is_srun(environ) else ()
    return MPICH if MPICH[0] in environ else ()


def is_srun(environ: Mapping[str, str]) -> bool:
    """Whether `srun` has started this process as one of its tasks.

    A shell in a job has the variables too: in `sbatch` without a step, or with one whose number is
    special, in `salloc` likewise, and in `srun --pty`. It is one process, however many tasks the
    job has.
    """
    step = environ.get("SLURM_STEP_ID", "")
    is_shell = not step.isdecimal() or int(step) >= SPECIAL_STEPS or "SLURM_PTY_PORT" in environ
    return SLURM[0] in environ and not is_shell


def whole_number(environ: Mapping[str, str], name: str, names: tuple[str, ...]) -> int:
    """The number in a variable.

    Raises:
        TrainingError: it is not set, or is no whole number.
    """
    text = environ.get(name)
    if text is not None and text.strip().isdecimal():
        return int(text)
    state = "is not set" if text is None else f"is {text!r}, no whole number"
    raise TrainingError(
        f"the environment has {names[0]}={environ.get(names[0])}, but {name} {state}; {hint(names)}"
    )


def hint(names: tuple[str, ...]) -> str:
    """What to do about an environment that makes no sense."""
    return (
        "start with torchrun, srun, mpirun or plain python, or unset the variables "
        f"{', '.join(names[:2])} that another program has left"
    )


def place_on_machine(
    environ: Mapping[str, str], names: tuple[str, ...], rank: int, world_size: int
) -> tuple[int, int]:
    """The rank on this machine, and how many ranks are on it.

    Kubeflow's operators start one process in each pod, and say nothing of either.

    Raises:
        TrainingError: a number is not set, or is none.
    """
    address = environ.get("MASTER_ADDR")
    if names[0] == SLURM[0]:
        local_world_size = tasks_on_node(environ, world_size)
    elif names[3] in environ:
        local_world_size = whole_number(environ, names[3], names)
    elif address in HERE or (address is None and names[2] in environ):
        local_world_size = world_size
    elif names[2] in environ:
        raise TrainingError(
            f"the environment has {names[2]}={environ[names[2]]} and MASTER_ADDR, but {names[3]} "
            f"is not set; set it to the number of processes on this machine, or {hint(names)}"
        )
    else:
        local_world_size = 1
    if names[2] in environ:
        return whole_number(environ, names[2], names), local_world_size
    return rank % max(local_world_size, 1), local_world_size


def tasks_on_node(environ: Mapping[str, str], world_size: int) -> int:
    """How many of the step's tasks run on this node."""
    counts = counts_of(environ.get("SLURM_STEP_TASKS_PER_NODE", ""))
    node = environ.get("SLURM_NODEID", "0")
    if counts and node.isdecimal():
        return counts[min(int(node), len(counts) - 1)]
    if SLURM[3] in environ:
        return min(whole_number(environ, SLURM[3], SLURM), world_size)
    return world_size


def counts_of(text: str) -> list[int]:
    """SLURM's list of counts, one for each node: `2(x2),1` is 2, 2, 1; empty if it is none."""
    parts = [re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part) for part in text.split(",")]
    if not all(parts):
        return []
    return [int(part[1]) for part in parts if part for _ in range(int(part[2] or 1))]


def address_of(environ: Mapping[str, str], launch: Launch, names: tuple[str, ...]) -> str:
    """Where rank 0 is met.

    Raises:
        TrainingError: nobody says where.
    """
    if launch.is_on_one_machine:
        return LOOPBACK
    if address := environ.get("MASTER_ADDR"):
        return address
    if names[0] == SLURM[0]:
        nodes = environ.get("SLURM_STEP_NODELIST") or environ.get("SLURM_JOB_NODELIST", "")
        if host := first_host(nodes):
            return host
    raise TrainingError(
        f"the environment has {names[0]}={launch.rank} of {names[1]}={launch.world_size}, but "
        "MASTER_ADDR is not set; set it to the host of rank 0, and MASTER_PORT to a free port there"
    )


def port_of(environ: Mapping[str, str], names: tuple[str, ...]) -> int:
    """At which port rank 0 is met."""
    if "MASTER_PORT" in environ:
        return whole_number(environ, "MASTER_PORT", names)
    if names[0] != SLURM[0]:
        return PORT
    job, step = (environ.get(name, "") for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    return 20_000 + sum(int(text) for text in (job, step) if text.isdecimal()) % 20_000


def first_host(nodes: str) -> str:
    """The first host of SLURM's list: `gpu[03-05,9],cpu1` begins with `gpu03`."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])*", nodes)
    return re.sub(r"\[([^\],-]*)[^\]]*\]", r"\1", first[0]) if first else ""
