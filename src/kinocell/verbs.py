"""The verbs of the command line: what each takes, its examples, and the action behind it.

How options are read is in `options.py`, what is done with them in `actions.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from kinocell import actions, presets, recipes
from kinocell import options as opts
from kinocell.actions import Request
from kinocell.config import RunConfig, SynthConfig
from kinocell.options import Option

Decoder = Literal["auto", "pyav", "opencv"]

COMMON = (
    Option(key="debug", kind=bool, help="Show the traceback of an error."),
    Option(key="help", kind=bool, help="Show this help."),
)
TRAINING = (
    *("out", "seed", "prepared", "split", "device", "clips", "augment"),
    *("checkpoint_minutes", "checkpoints_kept", "deterministic", "precision", "resident"),
    *("sync_bn", "resume", "compile"),
)
"""Settings of every loop of steps."""
SOURCES = (
    Option(key="config", kind=str, help="YAML or JSON file with settings, as --print-config does."),
    Option(key="preset", kind=str, help=f"Complete settings: {', '.join(presets.PRESETS)}."),
    Option(key="print_config", kind=bool, help="Print the resulting settings and do nothing."),
)


RECIPE = Option(
    key="recipe", kind=str,
    help=f"How the network is trained and tested, over the preset: {', '.join(recipes.RECIPES)}.",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """One verb of the command line."""

    action: Callable[[Request], None]
    summary: str
    settings: tuple[str, ...] = ()
    """Settings of RunConfig that it uses: whole sections ("clips") or single ones ("out")."""
    section: str = ""
    """The section whose short names win."""
    preset: str = ""
    """What a new folder starts from; empty: `small`, or `demo` where there is no data."""
    own: tuple[Option, ...] = ()
    """Options that are no settings."""
    word_is_source: bool = False
    """Its first word is a run folder, which brings its settings, or data."""
    many: bool = False
    """Whether several processes do it together, started by torchrun."""
    words: str = ""
    """What else it takes, for the usage line: "FILE..."."""
    examples: tuple[tuple[str, str], ...] = ()

    def visible(self, defaults: RunConfig) -> list[Option]:
        """All options that this verb takes."""
        of_config = [
            option
            for option in opts.config_options(defaults)
            if self.settings == ("*",) or {option.key, option.section} & set(self.settings)
        ]
        return [*of_config, *self.own, *(SOURCES if self.settings else ()), *COMMON]


COMPARING = (
    Option(key="models", kind=str, help="Networks drawn by people, with commas: c3d,x3d_xs."),
    Option(
        key="genotype",
        kind=str,
        help="Genotype files with commas; without any, modules are searched here.",
    ),
    Option(key="random_genotypes", kind=int, help="Random modules beside the searched ones [4]."),
    Option(key="seeds", kind=int, help="Trainings of each network [3; table2: 1]."),
    Option(key="search_seeds", kind=int, help="Searches, a module each [3; table2: 1]."),
    Option(
        key="budget",
        kind=str,
        help="epochs=N or minutes=M for each training [the settings' epochs].",
    ),
    Option(
        key="folds",
        kind=int,
        help="Cross-validation in so many folds, cut by group; 0 takes the data's split [0].",
    ),
    Option(
        key="lr_tries",
        kind=int,
        help="Learning rates tried for each network on held-out training videos [3; table2: 1].",
    ),
    Option(key="runs", kind=str, help="Finished run folders to set beside, with commas."),
    Option(key="workers", kind=int, default=1, help="Runs at a time."),
    Option(key="again", kind=bool, help="Try those again that failed too often."),
    RECIPE,
)
"""What a comparison takes besides settings; a folder remembers what was typed before."""

VERBS: dict[str, Verb] = {
    "run": Verb(
        action=actions.run,
        summary="The whole job: prepare, search, derive, train, evaluate, report.",
        settings=("*",),
        own=(RECIPE,),
        examples=(
            ("kinocell run --preset demo --out demo-run", "embedded videos, a few minutes"),
            ("kinocell run --data videos --out my-run", "a folder with a folder per class"),
            ("kinocell run --data list.csv --out my-run --search.epochs 20", "a csv"),
            ("kinocell run --dataset hmdb51 --root hmdb51 --split 2 --out my-run", "a collection"),
            ("kinocell run --out my-run", "go on with a run that was stopped"),
        ),
    ),
    "sweep": Verb(
        action=actions.sweep,
        summary="Many runs from one file: seeds x strategies x settings.",
        own=(
            Option(
                key="workers", kind=int, default=1,
                help="Runs at a time on this machine; with --slurm, how many jobs.",
            ),
            Option(key="dry_run", kind=bool, help="Print the command of every run, do nothing."),
            Option(key="status", kind=bool, help="How far every run is, and the numbers so far."),
            Option(key="again", kind=bool, help="Try those again that failed too often."),
            Option(key="slurm", kind=bool, help="Submit Slurm jobs that share the runs."),
            Option(
                key="resume", kind=bool, default=True,
                help="Go on with what is there. Off, a sweep that was begun before is refused.",
            ),
        ),
        many=True,
        words="FILE",
        examples=(
            ("kinocell sweep sweep.yaml --dry-run", "docs/many_runs.md shows such a file"),
            ("kinocell sweep sweep.yaml --workers 2", "also on other machines, same folder"),
            ("kinocell sweep sweep.yaml", "go on with a sweep that was stopped"),
            ("kinocell sweep sweep.yaml --status", "from anywhere, at any time"),
        ),
    ),
    "compare": Verb(
        action=actions.compare,
        summary="Baselines, searched and random modules on the same terms: a table.",
        settings=("*",),
        many=True,
        own=(
            *COMPARING,
            Option(key="dry_run", kind=bool, help="Say what it will cost, from measured steps."),
            Option(key="status", kind=bool, help="How far every run is, and the table so far."),
        ),
        examples=(
            (
                "kinocell compare --data videos --models c3d,x3d_xs --out DIR",
                "three searches and four random modules beside the two",
            ),
            (
                "kinocell compare --data videos --models x3d_xs --folds 5 --out DIR",
                "few videos: each is tested once",
            ),
            ("kinocell compare --out DIR --models c3d,x3d_xs,i3d", "one more; goes on"),
            ("kinocell compare --data videos --models c3d --out DIR --dry-run", "only its cost"),
            ("kinocell compare --out DIR --status", "from anywhere, at any time"),
        ),
    ),
    "reproduce": Verb(
        action=actions.reproduce,
        summary="A table of the paper, made anew; first what that costs here.",
        settings=("*",),
        preset="paper",
        own=(
            *COMPARING,
            Option(key="yes", kind=bool, help="Go on behind the cost."),
        ),
        words="TABLE",
        examples=(
            ("kinocell reproduce table2 --root UCF101 --out DIR", "only its cost, as measured"),
            ("kinocell reproduce table2 --root UCF101 --out DIR --yes", "all of it; goes on"),
            (
                "kinocell reproduce table2 --data videos --budget epochs=2 --out DIR --yes",
                "the same code, tried on other videos",
            ),
        ),
    ),
    "check": Verb(
        action=actions.check,
        summary="Decode all videos of a folder or csv, classify them, find leaks.",
        own=(
            Option(
                key="csv", kind=str, default="check.csv",
                help="Where the class, size, rate and notes of every video are written.",
            ),
            Option(
                key="clip_frames", kind=int, default=8,
                help="A video with fewer frames than a clip is called short.",
            ),
            Option(
                key="limit_seconds", kind=float, default=300.0,
                help="A file that takes longer to decode is called too slow.",
            ),
            Option(key="workers", kind=int, default=0, help="Processes; 0 means one per core."),
            Option(
                key="dataset", kind=str, default="",
                help="Layout of a public collection; `kinocell list datasets` shows all.",
            ),
            Option(
                key="split", kind=str, default="",
                help="Which of its official splits, by number; 1 if none is named.",
            ),
            Option(
                key="decoder", kind=Decoder, default="auto",
                help="PyAV where it is installed, else OpenCV, or the one that is named.",
            ),
        ),
        words="PATH",
        examples=(
            ("kinocell check ucf101 --dataset ucf101 --split 2", "by the official lists"),
            ("kinocell check videos", "exit code 1: unreadable files, or leaks between splits"),
            ("kinocell check list.csv --csv found.csv", "the split and group columns are used"),
            ("kinocell check my-run", "a prepared folder: its lists and its frame store"),
        ),
    ),
    "show": Verb(
        action=actions.show,
        summary="Write a contact sheet per class: the clips that training draws.",
        settings=(
            *("out", "seed", "dataset", "split", "clips", "augment", "evaluate.views"),
            *("prepare.short_side_px", "prepare.test_fraction", "prepare.decoder"),
        ),
        section="clips",
        own=(
            Option(key="rows", kind=int, default=4, help="Training clips of each class."),
        ),
        word_is_source=True,
        words="PATH",
        examples=(
            ("kinocell show my-run", "what this run trains and tests on"),
            ("kinocell show videos --out look --flip", "before anything is prepared"),
        ),
    ),
    "prepare": Verb(
        action=actions.prepare,
        summary="Decode every video once, into the frame store.",
        settings=("data", "dataset", "split", "out", "prepared", "seed", "prepare", "synthetic",
                  "resume"),
        section="prepare",
        examples=(
            ("kinocell prepare --data videos --out my-run", "all of them must decode"),
            (
                "kinocell prepare --dataset ucf101 --root ucf101 --split all --prepared store",
                "archive or folders, one store for the three official splits",
            ),
            ("kinocell prepare --data videos --out my-run --max-skipped 3", "three may fail"),
            ("kinocell prepare --data videos --prepared store", "a store for several runs"),
            ("kinocell prepare --data videos --out my-run --no-store", "keeps no frames, but slow"),
        ),
    ),
    "search": Verb(
        action=actions.search,
        summary="Search one module by gradient descent.",
        settings=(*TRAINING, "search"),
        section="search",
        many=True,
        examples=(
            ("kinocell search --out my-run --epochs 20", "after `kinocell prepare`"),
            ("kinocell search --out my-run --strategy finite", "second order, about 3 x slower"),
            ("kinocell list strategies", "what there is"),
        ),
    ),
    "derive": Verb(
        action=actions.derive,
        summary="Choose the module among those of the search's epochs.",
        settings=("out", "search.choose"),
        section="search",
        examples=(("kinocell derive --out my-run --choose last", "the last epoch's module"),),
    ),
    "train": Verb(
        action=actions.train,
        summary="Train the final network from scratch.",
        settings=(*TRAINING, "train"),
        section="train",
        many=True,
        own=(
            RECIPE,
            Option(
                key="genotype", kind=str,
                help="A genotype file from elsewhere, instead of OUT/search/genotype.json.",
            ),
        ),
        examples=(
            ("kinocell train --out my-run --epochs 100", "after `kinocell search`"),
            ("kinocell train --out my-run --recipe modern --ema 0", "but for one ingredient"),
            (
                "kinocell train --out other --prepared my-run/prepare --genotype found.json",
                "a module that was found before",
            ),
            (
                "kinocell train --out c3d-run --prepared my-run/prepare --model c3d",
                "a network drawn by people",
            ),
        ),
    ),
    "evaluate": Verb(
        action=actions.evaluate,
        summary="Score the trained network on the test split.",
        settings=("out", "prepared", "split", "device", "evaluate", "resume"),
        section="evaluate",
        examples=(
            ("kinocell evaluate --out my-run --views 5", "five clips per video"),
            ("kinocell evaluate --out my-run --views 10 --crops 3", "thirty, averaged"),
        ),
    ),
    "download": Verb(
        action=actions.download,
        summary="Fetch a public collection of videos; goes on where it stopped.",
        own=(
            Option(key="to", kind=str, help="Folder for the archive. Empty: the name."),
            Option(
                key="mirror", kind=str,
                help="Address of the same file elsewhere, asked before the official hosts.",
            ),
        ),
        words="NAME",
        examples=(
            ("kinocell download ucf101 --to videos/ucf101", "6.5 GiB"),
            ("kinocell download hmdb51 --mirror https://example.org/hmdb51_org.rar", "a copy"),
        ),
    ),
    "synth": Verb(
        action=actions.synth,
        summary="Render a benchmark of videos whose label is the motion.",
        own=(
            Option(key="out", kind=str, help="Folder to fill; gone on with if unfinished."),
            *opts.config_options(SynthConfig()),
            Option(key="workers", kind=int, default=0, help="Processes; 0 means one per core."),
        ),
        examples=(
            ("kinocell synth --out motions", "16 classes, 1,200 training and 1,200 test videos"),
            ("kinocell synth --classes 4 --videos 400 --out few", "a quick look"),
            ("kinocell prepare --data motions/videos.csv --out my-run", "what comes next"),
        ),
    ),
    "predict": Verb(
        action=actions.predict,
        summary="Name the action in video files, with a trained network.",
        own=(
            Option(key="run", kind=str, help="Folder of a run that has been trained."),
            Option(key="top", kind=int, help="How many classes to name.", default=5),
            Option(
                key="views", kind=int, default=0,
                help="Clips per video, averaged; 0: as many as in the run's evaluation.",
            ),
            Option(
                key="crops", kind=int, default=0,
                help="Squares cut out of each of these clips, averaged too; 0: likewise.",
            ),
            Option(key="json", kind=bool, help="One line of JSON per file."),
            Option(
                key="decoder", kind=Decoder, default="auto",
                help="PyAV where it is installed, else OpenCV, or the one that is named.",
            ),
        ),
        words="FILE...",
        examples=(
            ("kinocell predict clip.mp4 --run my-run", "the five likeliest classes"),
            ("kinocell predict *.avi --run my-run --top 1 --json", "for a script"),
        ),
    ),
    "export": Verb(
        action=actions.export,
        summary="Write a trained network as ONNX, tried before it is kept.",
        own=(
            Option(key="file", kind=str, help="Where to. Empty: model.onnx in the run folder."),
            Option(
                key="weights", kind=Literal["best", "last"], default="best",
                help="Which weights of the training.",
            ),
        ),
        words="DIR",
        examples=(
            ("kinocell export my-run", "docs/export.md says how to use the file"),
            ("kinocell export my-run --file phone.onnx --weights last", "the last epoch's"),
        ),
    ),
    "report": Verb(
        action=actions.report,
        summary="Write report.html, one page about the run.",
        settings=("out",),
        examples=(("kinocell report --out my-run", "works on a laptop without the videos"),),
    ),
    "cost": Verb(
        action=actions.cost,
        summary="What networks cost: parameters, MiB, multiply-adds, time.",
        own=(
            Option(
                key="classes", kind=int, default=101,
                help="Outputs of the classifier; a trained network keeps its own.",
            ),
            Option(key="frames", kind=int, default=8, help="Frames of a clip."),
            Option(key="size_px", kind=int, default=112, help="Height and width of a clip."),
            Option(
                key="channels", kind=int, default=8,
                help="Of each node in the first layer of a genotype's network.",
            ),
            Option(
                key="layers", kind=int, default=6,
                help="How often a genotype's module is repeated.",
            ),
            Option(
                key="repeats", kind=int, default=15,
                help="Timed passes per batch size (1 and 8 clips); 0 measures no time.",
            ),
            Option(key="device", kind=str, default="auto", help="auto, cpu, cuda or cuda:N."),
            Option(key="json", kind=bool, help="One line of JSON per model."),
        ),
        words="MODEL...",
        examples=(
            ("kinocell cost c3d i3d my-run", "two baselines and a run, side by side"),
            ("kinocell cost found.json --layers 8 --repeats 0", "a genotype, counts only"),
            ("kinocell cost x3d_xs --frames 16 --json", "for a script"),
        ),
    ),
    "list": Verb(
        action=actions.list_names,
        summary="What there is to choose from: presets, ops, datasets and more.",
        words="[WHAT...]",
        examples=(("kinocell list ops", "the operators of the search space"),),
    ),
}  # fmt: skip
