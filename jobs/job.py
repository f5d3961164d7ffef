"""All classes of a command line: checked, shared with other processes, each run, and the tables of all."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch

import utils
from artifacts import class_status, layout, run_info
from artifacts.class_status import Failure
from artifacts.options import XAVIER
from artifacts.tracking import trackers
from datasets.base import JUDGE_ONLY
from jobs import growth
from jobs.assembly import Assembly, Images
from jobs.checks import OUT_OF_MEMORY, Space, check_data, check_run, check_space
from jobs.held_out import ClassSets
from jobs.joint.training import JointTraining
from jobs.one_class import ClassRun
from jobs.settings import Settings, Task
from jobs.sharing import Team
from reporting import held_out_table, kinds, report_page, spread, tables
from system import claims, memory
from system.files import atomic_write
from system.processes import Place, usable_cores
from training import hypothesis

LOGGER = logging.getLogger(__name__)

NO_TEXTURES = (
    "No AUG_PATH: synthetic defects take textures drawn by formula. Real ones, DTD, are better, and published figures "
    "rest on them: python prepare.py dtd OUT fetches them; then give OUT/dtd/images as AUG_PATH."
)
EXPERIMENTAL = (
    "--dsc_init %s: experimental. On classes whose test normals differ from the training normals it may cost accuracy: "
    "compare with a run without it."
)


class Job:
    """The classes of a command line, on the backbones of a command line.

    Args:
        settings: the three parts of the command line.
        gpu: wanted CUDA devices; none or a negative one is the CPU.
        place: of this process among those that share the classes.

    Raises:
        ValueError, FileNotFoundError: anything that is wrong with the options, before any image is read.
    """

    def __init__(self, settings: Settings, gpu: Sequence[int] = (), place: Place | None = None) -> None:
        self.settings, self.place = settings, place or Place()
        if settings.run.seeds and settings.data.distribution == JUDGE_ONLY:
            raise ValueError("--distribution 1 judges images, which no seed changes: leave --seeds out.")
        if settings.run.train:
            trackers.require(settings.run.tracker)
        self.fresh = settings.run.fresh and not self.place.restarted
        if settings.run.fresh and not self.fresh:
            LOGGER.warning("A launcher started this command before: its classes continue instead of starting over.")
        device = utils.set_torch_device([index for index in gpu if index >= 0])
        if settings.run.train and device.type == "cpu":
            memory.keep_freed()
        utils.set_precision(settings.net.precision)
        workers = _capped_workers(settings.data.num_workers, self.place)
        images = Images()
        self.assemblies = [Assembly(each, device, workers, images) for each in settings.of_seeds()]
        if settings.run.train and settings.data.aug_path is None and settings.data.distribution != JUDGE_ONLY:
            LOGGER.warning("%s", NO_TEXTURES)
        self.told: set[str] = set()  # classes whose images were checked
        if settings.run.train and settings.net.dsc_init != XAVIER:
            LOGGER.warning(EXPERIMENTAL, settings.net.dsc_init)
        for name in ("cuda_graph", "triton"):
            if settings.run.train and getattr(settings.net, name) and device.type != "cuda":
                LOGGER.warning("--%s has no effect on the %s.", name, device.type.upper())

    def run(self) -> bool:
        """Train (unless only tests are wanted) and test every class on every backbone; return whether any failed.

        Where several processes share the classes, each is done by one of them.

        Raises:
            ValueError, FileNotFoundError: wrong input, found before any training.
        """
        owners = {task: each for each in self.assemblies for task in each.settings.tasks()}
        together = {task: each for each in self.assemblies for task in each.settings.joint_tasks()}
        everything = list(owners)
        tasks = self.place.part(everything)
        if not tasks:
            LOGGER.info("This shard holds none of the %d classes.", len(everything))
            return False
        if self.settings.run.accept:
            self._accept(tasks)
        team = Team(self.place, tasks, self.fresh)
        # Whoever comes later finds a joint training finished, and does not repeat one that failed meanwhile.
        first = Team(self.place, list(together), redo=True)
        earlier = {task: _inode(task.folder) for task in (*together, *tasks)}
        sets, spaces = {}, []
        for assembly in self.assemblies:
            own = [task for task in tasks if owners[task] is assembly]
            found, space = self._checked(assembly, own) if own else ({}, [])
            sets |= found
            spaces += space
        check_space(self.settings.run.results_path, spaces)
        joint = {task.folder.parent: self._joint(each, task, sets) for task, each in together.items()}
        owners = together | owners
        idle = [task for task in together if not (self.fresh or joint[task.folder.parent].needed)]
        over = {task for task in idle if not task.folder.exists()}  # removed, as no class waits for it
        for assembly in self.assemblies:
            planned = [task.planned for task, owner in owners.items() if owner is assembly and task not in over]
            class_status.write_plan(assembly.settings.run.results_path, planned)
        if self.fresh:
            self._start_over([*together, *tasks[self.place.rank :: self.place.world]], earlier)

        def attempt(task: Task) -> None:
            assembly, training = owners[task], joint.get(task.folder.parent)
            run = training.run if task in together else partial(_run_class, assembly, task, sets.get(task), training)
            self._attempt(assembly, task, run, earlier[task])

        left = first.work(attempt) or team.work(attempt)
        if team.last or self.place.world == 1:
            self._conclude()
        return bool(left) or any(class_status.read_failure(task.results) for task in tasks)

    def _joint(self, assembly: Assembly, task: Task, sets: Mapping[Task, ClassSets]) -> JointTraining:
        """Return a training of --joint, checked where a class waits for it.

        Raises:
            ValueError, FileNotFoundError: it was begun with other options or images.
        """
        own = {each: found for each, found in sets.items() if each.folder.parent == task.folder.parent}
        joint = JointTraining(assembly, task, own)
        if joint.needed and not self.fresh:
            joint.check()
        return joint

    def _known_images(self, settings: Settings, task: Task) -> run_info.ImageList | None:
        """Return the images of an earlier training of a class, where its results stand by it."""
        if not settings.run.train or (self.fresh and not settings.run.grow):
            return None
        return run_info.read_images(settings.earlier_folder(task))

    def _accept(self, tasks: Sequence[Task]) -> None:
        """Put what has grown in place of the earlier models.

        Raises:
            ValueError: nothing has grown, or several processes would do it.
        """
        if self.place.world > 1:
            raise ValueError("--accept is done by one process: run it without a launcher, and with one --gpu.")
        for task in tasks:
            growth.accept(self.settings.run.results_path, task)

    def _checked(self, assembly: Assembly, tasks: Sequence[Task]) -> tuple[dict[Task, ClassSets], list[Space]]:
        """Read the images of classes, and check everything that can be checked of them; return the space they take.

        Raises:
            ValueError, FileNotFoundError: something is wrong.
        """
        first = {task.classname: task for task in reversed(tasks)}  # of several backbones
        sets = {name: assembly.sets(name, self._known_images(assembly.settings, task)) for name, task in first.items()}
        for name, each in sets.items():
            if name not in self.told:  # another seed finds the same in them
                self.told.add(name)
                check_data(self.settings, name, [part for part in (each.train, each.test) if part is not None])
        spaces = check_run(assembly, tasks, sets, self.fresh)
        return {task: sets[task.classname] for task in tasks}, spaces

    def judge(self) -> bool:
        """Judge the hypothesis of every class from its images and write it down, without training."""
        for classname in self.place.own(self.settings.data.subdatasets):
            opened = self.assemblies[0].opened(classname)
            check_data(self.settings, classname, opened)
            train_set = opened[0]
            loader = self.assemblies[0].train_loader(train_set, self.settings.run.seed)
            hypothesis.judge(loader, train_set.name, self.settings.judge_path)
        LOGGER.info("Judgements are in %s.", self.settings.judge_path)
        return False

    def _attempt(self, assembly: Assembly, task: Task, run: Callable[[], None], earlier: int | None) -> None:
        """Run a class that this process has claimed; where that fails, say so and write it down, so that others go on.

        Args:
            assembly: of the class.
            task: the class, or a joint training.
            run: does it.
            earlier: what tells its folder from that of an earlier run, which moves away with --fresh.

        Raises:
            RuntimeError: the device is lost, and with it this process.
        """
        name = task.planned.name
        if self.settings.run.seeds:
            LOGGER.info("%s, seed %d: %s.", name, assembly.settings.run.seed, assembly.settings.run.results_path)
        try:
            if self.fresh:
                _move_aside(task.folder, earlier)
            run()
        except torch.OutOfMemoryError:
            error = f"out of device memory: {OUT_OF_MEMORY}."
            LOGGER.error("%s: %s", name, error)
        except (FloatingPointError, ValueError, FileNotFoundError) as failure:
            error = _last_line(failure).removeprefix(f"{name}: ")
            LOGGER.error("%s: %s", name, error)
        except RuntimeError as failure:  # of PyTorch, which has no other for most of what goes wrong
            error = _last_line(failure)
            LOGGER.exception("%s: %s", name, error)
            utils.check_device(assembly.device)  # one that is lost would fail all other classes, too
        else:
            class_status.clear(task.folder)
            class_status.clear(task.results)
            return
        class_status.write_failure(task.results, Failure(task.planned, error))

    def _start_over(self, tasks: Sequence[Task], earlier: dict[Task, int | None]) -> None:
        """Move the class folders of earlier runs out of the way, each as a whole; a colleague may have begun some.

        Raises:
            Claimed: another run works on one.
        """
        for task in tasks:
            with suppress(*[claims.Claimed] * (self.place.world > 1)), claims.claim(task.folder):
                _move_aside(task.folder, earlier[task])

    def _conclude(self) -> None:
        """Make what is derived from all classes, and show it."""
        results_path = self.settings.run.results_path
        for assembly in self.assemblies:
            self._conclude_seed(assembly.settings.run.results_path)
        if self.settings.run.seeds:
            runs = spread.read(results_path)
            atomic_write(results_path / layout.SEEDS_FILE, spread.to_csv([runs]).encode())
            LOGGER.info("Mean and standard deviation:\n%s", spread.to_text(runs))
            LOGGER.info("They are in %s.", results_path / layout.SEEDS_FILE)

    def _conclude_seed(self, results_path: Path) -> None:
        results, page = report_page.collect(results_path)
        kinds.write_csv(results_path)
        held_out = held_out_table.read(results_path, results)
        LOGGER.info("Results:\n%s", tables.to_text(results, class_status.failures(results_path), held_out))
        LOGGER.info("Figures are in %s.", results_path / layout.RESULTS_FILE)
        if (results_path / layout.EVAL).is_dir():
            LOGGER.info("Pictures are under %s.", results_path / layout.EVAL)
        if page is not None:
            LOGGER.info("All of it is on one page: %s.", page)


def _capped_workers(wanted: int, place: Place) -> int:
    """Return how many processes load images: as wanted, but no more than this process's share of the cores."""
    cores, processes = usable_cores(), place.local_world
    most = max(1, cores // processes)
    if wanted > most:
        shared = f" for {processes} processes" if processes > 1 else ""
        LOGGER.info("Loader workers: %d instead of %d; cores here: %d%s.", most, wanted, cores, shared)
    return min(wanted, most)


def _run_class(assembly: Assembly, task: Task, sets: ClassSets, joint: JointTraining | None) -> None:
    ClassRun(assembly, task, sets, joint).run()


def _inode(folder: Path) -> int | None:
    """Return what tells a folder from another that takes its name; None where there is none."""
    return folder.stat().st_ino if folder.is_dir() else None


def _move_aside(folder: Path, earlier: int | None) -> None:
    """Move a class folder out of the way, if it still is an earlier run's."""
    if earlier is not None and _inode(folder) == earlier:
        growth.move_aside(folder)


def _last_line(error: Exception) -> str:
    """Return the last line of an error's message: one from a loader process begins with a traceback."""
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
