import pytest


def pytest_configure(config):
    # Of typer, which flwr pins below the version that knows the newest click.
    config.addinivalue_line("filterwarnings", "ignore:'click.utils:DeprecationWarning")


@pytest.fixture(autouse=True)
def flower_task():
    """Flower stamps its messages with the task that makes them, and there is none in a test."""
    from flwr.supercore.task_identity import TaskIdentity  # noqa: PLC0415 - after the filter above

    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
