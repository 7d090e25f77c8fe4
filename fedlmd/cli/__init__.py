"""The command line: ``fedlmd --help``."""

from __future__ import annotations

import typer

from fedlmd.cli import bench, bench_demo, bench_faults, bench_merge, bench_scale, cluster, local, simulate
from fedlmd.cli.show import fail
from fedlmd.client import NodeError
from fedlmd.cluster import ClusterError
from fedlmd.demo import DemoError
from fedlmd.federation.engine import EngineError
from fedlmd.simulation import SimulationError

__all__ = ["app", "main"]

# What a user can mend; everything else is a bug and shows its trace. DataError, ReleaseError and SettingsError are
# ValueErrors.
MENDABLE = (ClusterError, DemoError, EngineError, NodeError, OSError, SimulationError, ValueError)

app = typer.Typer(
    help="Federated image classification that knows what it does not know.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(local.data_app, name="data")
bench.bench_app.command("faults")(bench_faults.faults_command)
bench.bench_app.command("merge")(bench_merge.merge_command)
bench.bench_app.command("demo")(bench_demo.demo_command)
bench.bench_app.command("scale")(bench_scale.scale_command)
app.add_typer(bench.bench_app, name="bench")
for command in (
    cluster.demo,
    local.train,
    local.calibrate,
    local.evaluate,
    local.infer,
    cluster.serve,
    cluster.federate,
    cluster.log,
    cluster.drift,
):
    app.command()(command)
app.command("simulate")(simulate.simulate_command)


def main() -> None:
    """Run the command line; what a user can mend is one line on standard error and exit status 1."""
    try:
        app()
    except MENDABLE as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("stopped")
