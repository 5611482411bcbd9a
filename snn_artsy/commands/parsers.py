"""Commands of the command line, their arguments and their help."""

from __future__ import annotations

from argparse import ArgumentParser
from functools import lru_cache

from snn_artsy import __version__
from snn_artsy.api import COMPARED, STUDIED
from snn_artsy.config import RunConfig
from snn_artsy.config_builder import keys_of
from snn_artsy.options import Parser
from snn_artsy.protocols import ON_A_RUN
from snn_artsy.registry import PROTOCOLS

PROG = "snn-artsy"
_OWN = (
    "Learners, rules or figures of your own that a file names or that are to take part, as "
    "module:Name; no module is imported but those named on the command line."
)
_WEIGHTS = "File of the backbone's weights, where it has moved; others are refused."
# What most people set of a run; `--help all` explains the rest.
_SHORT = (
    "seed",
    "device",
    "learners",
    "controls",
    "out",
    "data.name",
    "data.root",
    "data.n_tasks",
    "data.increment",
    "data.train_per_class",
    "backbone.name",
    "ann.placement",
    "ann.blocks",
    "snn.preset",
    "snn.mode",
    "snn.plasticity.rule",
    "snn.plasticity.update",
    "snn.neuron.per_class",
    "record.traced_synapses",
)
_OVERWRITE = "Replace files that are there already and differ."


@lru_cache(maxsize=8)
def build_parsers(
    command: str | None, keys: type | None = None, protocol_name: str = ""
) -> tuple[ArgumentParser, dict[str, Parser]]:
    """All commands, the one that is given with its keys: a run has two hundred.

    Args:
        keys: Class of its keys; default: of a run's.
        protocol_name: Of ``command`` protocol: the protocol whose parameters ``keys`` are.
    """

    def configuration(name: str) -> type | None:
        return (keys or RunConfig) if name == command else None

    # keys of learners of one's own are shown, too: they were asked for
    short = [*_SHORT, *(set(keys_of(keys or RunConfig)) - set(keys_of(RunConfig)))]
    run = Parser(
        prog=f"{PROG} run",
        description="Learn the tasks, evaluate after each, record. Without any argument: the "
        "bundled backbone and scikit-learn's digits, in under two minutes.",
        configuration=configuration("run"),
        short=short,
    )
    compare = Parser(
        prog=f"{PROG} compare",
        description="Learners x seeds on one protocol, compared pair by pair. Takes every key of "
        f"`{PROG} run`; --seed is the first of the seeds, --out the directory, which keeps "
        f"finished cells. data.train_share is {COMPARED['data.train_share']:g} here unless given.",
        configuration=configuration("compare"),
        short=short,
    )
    compare.option("seeds", int, 5, "How many seeds.")
    sweep = Parser(
        prog=f"{PROG} sweep",
        description="Every combination of a grid's values as a run of its own. Takes every key of "
        f"`{PROG} run`; --out is the directory of all. The same command takes up what is missing.",
        configuration=configuration("sweep"),
        short=short,
    )
    sweep.option(
        "grid",
        str | None,
        None,
        "Keys and their values; in a configuration file, `grid:` with a list for each key.",
        "KEY=A,B;KEY=C,D",
    )
    sweep.option("workers", int | None, None, "Runs at a time here (default: by its cores).")
    study = Parser(
        prog=f"{PROG} study",
        usage=f"{PROG} study [FILE] [--KEY VALUE ...]",
        description="From a hypothesis to its figure: keys that are varied, measures, seeds; gives "
        "tables with intervals, the figure and every cell. FILE holds `vary` (KEY: [value, value]) "
        "or `settings` (NAME: {KEY: value}), `measure`, `seeds`, `hypothesis`, and any key of "
        f"`{PROG} run` for all settings. learners is {', '.join(STUDIED['learners'])} and "
        f"data.train_share {STUDIED['data.train_share']:g} unless given. The same command takes up "
        "what is missing.",
        configuration=configuration("study"),
        short=short,
    )
    study.add_argument("file", nargs="?", metavar="FILE", help="The study, in YAML.")
    study.option("vary", str | None, None, "In place of a file's.", "KEY=A,B;KEY=C,D")
    study.option("measure", list[str] | None, None, "Measures of a run's summary.", "A,B")
    study.option("seeds", int | None, None, "How many (default: the file's, or 5).")
    for parser in (compare, study):
        parser.option("workers", int, 1, "Seeds at a time here, each in a process of its own.")
    for parser in (compare, sweep, study):
        where = "Of a Ray cluster, or auto; default: this machine."
        parser.option("address", str | None, None, where)
        parser.option("cpus_per_run", int, 1, "Cores of each of these processes.")
        parser.option("gpus_per_run", float, 0.0, "GPUs of each; fractions share one.")
    protocol = _protocol(protocol_name, keys)
    for parser in (run, compare, sweep, study, protocol):
        parser.option("own", str | None, None, _OWN, "MODULE:NAME,..")
        parser.add_argument(
            "--config", action="append", default=[], metavar="FILE",
            help="YAML file with any of the keys below; what is typed beats it.",
        )  # fmt: skip
        parser.add_argument(
            "--print_config", action="store_true", help="Print the configuration as YAML, and stop."
        )

    plot = Parser(prog=f"{PROG} plot", description="Draw figures of a recorded run.")
    plot.add_argument("run", metavar="RUN", help="Run directory or its run.h5.")
    plot.add_argument("names", nargs="*", metavar="NAME", help="Figures (default: all).")
    _formats(plot, ["png"])
    _look(plot)
    plot.option("beside", list[str], [], "Other runs, drawn as panels beside this one.", "RUN,..")
    plot.option("list", bool, False, "Only list the names of the figures.")
    plot.option(
        "out", str | None, None, "Directory (default: figures/ in the run directory).", "DIR"
    )
    plot.option("overwrite", bool, False, _OVERWRITE)
    resume = Parser(
        prog=f"{PROG} resume",
        description="Go on with an interrupted run after the last task that a learner finished (in "
        "the spiking learner, after the last epoch), with the configuration it began with. On the "
        "CPU its numbers are those of a run that was never interrupted.",
    )
    resume.add_argument("run", metavar="RUN", help="Run directory.")
    resume.option("own", str | None, None, _OWN, "MODULE:NAME,..")
    info = Parser(
        prog=f"{PROG} info",
        description="Say what was run, how it ended, and what the file holds.",
    )
    info.add_argument("run", metavar="RUN", help="Run directory or its run.h5.")
    info.option("json", bool, False, "As JSON.")
    info.option(
        "csv", str | None, None, "These measures of all learners as CSV.", "matrix|forgetting|gates"
    )
    predict = Parser(
        prog=f"{PROG} predict",
        description="Answer for images of any size by what a learner of a finished run has learnt. "
        "The run's own images are not needed.",
    )
    predict.add_argument("run", metavar="RUN", help="Run directory, or a pack of it.")
    predict.add_argument(
        "images", nargs="*", metavar="IMAGE",
        help="Files, or folders with all images below them; -: a list of paths on standard input.",
    )  # fmt: skip
    predict.option("learner", str | None, None, "Who answers (default: the run's last one).")
    predict.option("json", bool, False, "Print a JSON list with one object an image.")
    predict.option("out", str | None, None, "Write that list to a file.", "FILE")
    predict.option("weights", str | None, None, _WEIGHTS, "FILE")
    predict.option("device", str | None, None, "Default: as in the run.", "auto|cpu|cuda")
    predict.option("overwrite", bool, False, _OVERWRITE)
    predict.option("own", str | None, None, _OWN, "MODULE:NAME,..")
    pack = Parser(
        prog=f"{PROG} pack",
        description="Pack what the learners of a finished run have learnt, to be used elsewhere: "
        f"no image, no path, no recording. `{PROG} predict` takes the pack, or its folder.",
    )
    pack.add_argument("run", metavar="RUN", help="Run directory.")
    pack.add_argument("out", metavar="OUT.zip", help="The file to make.")
    pack.option(
        "with-weights", bool, False,
        "With the backbone's weights; else whoever uses it needs the same ones.",
    )  # fmt: skip
    pack.option("overwrite", bool, False, _OVERWRITE)
    pack.option("own", str | None, None, _OWN, "MODULE:NAME,..")
    report = Parser(
        prog=f"{PROG} report",
        description="Write one HTML page that needs no network: configuration, table, figures, how "
        "to reproduce; with several runs, their comparison, which comes first.",
    )
    report.add_argument(
        "runs", nargs="+", metavar="RUN", help="Directories of runs, comparisons and sweeps."
    )
    report.option(
        "out", str | None, None, "The page (default: report.html in the first run's directory).",
        "FILE",
    )  # fmt: skip
    _look(report)
    report.option("overwrite", bool, False, _OVERWRITE)
    report.option("own", str | None, None, _OWN, "MODULE:NAME,..")
    export = Parser(
        prog=f"{PROG} export",
        description="Write a run, or a protocol's data, in a format that other tools open.",
    )
    export.add_argument(
        "run", metavar="RUN", help="Run directory or its run.h5; or a protocol's .h5 (to nwb)."
    )
    export.option("to", str | None, None, "Format (required).", "nwb|sonata|nir")
    export.option(
        "out",
        str | None,
        None,
        "File (nwb, nir) or directory (sonata); default: beside run.h5.",
        "PATH",
    )
    export.option("overwrite", bool, False, _OVERWRITE)
    parsers = {"run": run, "plot": plot, "info": info, "protocol": protocol, "compare": compare}
    parsers |= {"resume": resume, "export": export, "report": report, "sweep": sweep}
    parsers |= {"predict": predict, "pack": pack, "study": study}
    helps = {
        "run": "learn, evaluate, record",
        "plot": "draw figures",
        "info": "what is in a run",
        "protocol": "virtual experiments",
        "compare": "learners x seeds, with statistics",
        "resume": "go on with an interrupted run",
        "export": "as NWB, SONATA or NIR",
        "report": "one HTML page",
        "sweep": "a grid of runs",
        "study": "from a hypothesis to its figure",
        "predict": "answers for new images",
        "pack": "trained learners in one file",
    }
    top = ArgumentParser(
        prog=PROG,
        description="Continual learning with silent synapses between a frozen ViT and its "
        "sub-networks. --debug, anywhere, shows the traceback of a failure.",
    )
    top.add_argument("--version", action="version", version=f"{PROG} {__version__}")
    names = top.add_subparsers(metavar="COMMAND", title="commands")
    for name in parsers:
        names.add_parser(name, help=helps[name])
    return top, parsers


def _formats(parser: Parser, default: list[str]) -> None:
    parser.option("format", list[str], default, "Of figures, one or several.", "png,pdf,svg")


def _look(parser: Parser) -> None:
    """How figures are drawn."""
    parser.option(
        "width", str | None, None,
        "Of a figure, such as 85mm, or a journal's column: nature, nature-page, cell, pnas, "
        "jneurosci, frontiers, ieee (each also with -page), neurips.", "MM",
    )  # fmt: skip
    parser.option(
        "style", list[str], [],
        "Style sheets of matplotlib, files or names: fonts, sizes, colours.", "FILE,..",
    )  # fmt: skip


def _protocol(name: str, parameters: type | None) -> Parser:
    """The command of virtual experiments; of the one that is named, with its parameters."""
    shown = (
        f"{name}: {PROTOCOLS.label(name)}."
        if name
        else "Run virtual experiments beside reference values: "
        + "; ".join(f"{each}: {PROTOCOLS.label(each)}" for each in PROTOCOLS)
        + f"; all: every one of them. `{PROG} protocol NAME --help` lists a protocol's parameters."
    )
    parser = Parser(
        prog=f"{PROG} protocol",
        usage=f"{PROG} protocol {name or 'NAME'} [--KEY VALUE ...]",
        description=shown,
        configuration=parameters if name else None,
        title="parameters",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="A protocol, or all.")
    parser.option("out", str, "protocols", "Directory of data, figures, protocols.json.", "DIR")
    parser.option(
        "run", str | None, None, f"Trained run directory, for {' and '.join(ON_A_RUN)}.", "RUN"
    )
    _formats(parser, ["png", "pdf"])
    _look(parser)
    parser.option("overwrite", bool, False, _OVERWRITE)
    parser.option("seed", int, 1993, "Of everything random.")
    parser.option("threads", int | None, None, "Threads to compute with (default: one).")
    return parser
