"""``agentcanary manifests``: the Kubernetes resources of a canary, and what is wrong with those that are there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentcanary.cli.exit_codes import ExitCode
from agentcanary.cli.options import CONFIG_FILE, JsonOption
from agentcanary.cli.output import complain, print_json
from agentcanary.errors import ConfigError, StoreError
from agentcanary.manifests.mesh import Mesh, MeshApi, MeshMode

if TYPE_CHECKING:
    from agentcanary.config import Config


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("manifests")(manifests)


def manifests(
    api: Annotated[MeshApi, typer.Argument(help="Whose resources.")],
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="The same as --config.")] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", metavar="FILE", help="Else canary.yaml.")] = None,
    weight: Annotated[float | None, typer.Option(help="Share of the canary, 0..1; else the rollout's.")] = None,
    services: Annotated[bool, typer.Option("--services", help="A Service for each Deployment, no subsets.")] = False,
    check: Annotated[Path | None, typer.Option(metavar="FILE", help="Check this manifest instead.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the resources that split the agent's traffic at a weight; or, with --check, what is wrong with a manifest.

    Nothing in a cluster is read or changed. With --check the exit code is 1 where something is wrong.
    """
    from agentcanary.config import load_config

    if file is not None and config is not None:
        raise typer.BadParameter(f"name one file, got {file} and {config}")
    if weight is not None and not 0 <= weight <= 1:
        raise typer.BadParameter(f"--weight is a share in 0..1, got {weight:g} (write 0.05, not 5)")
    path = file or config or CONFIG_FILE
    found = load_config(path)
    try:
        mesh = _mesh(found, api, services=services)
    except ValueError as error:
        raise ConfigError([f"{path}: kubernetes: {error}"]) from None
    resources = _rendered(mesh, _weight(found, path) if weight is None else weight)
    if check is not None:
        _check(check, resources, as_json=as_json)
    elif as_json:
        print_json(resources)
    else:
        import yaml

        typer.echo(yaml.safe_dump_all(resources, sort_keys=False), nl=False)


def _mesh(config: Config, api: MeshApi, *, services: bool) -> Mesh:
    from agentcanary.config.deployment import KubernetesSection

    mesh = config.kubernetes or KubernetesSection(mode=MeshMode.MESH).mesh(config.agent)
    separate = mesh.subsets and (services or api is MeshApi.GATEWAY_API)
    if separate:
        mesh = replace(mesh, stable_service=f"{mesh.service}-stable", canary_service=f"{mesh.service}-canary")
    if api is MeshApi.GATEWAY_API and mesh.port is None:
        mesh = replace(mesh, port=80)
    return replace(mesh, api=api)


def _weight(config: Config, file: Path) -> float:
    """The weight that the mesh has to have now."""
    from agentcanary.cli.seat import existing_store

    if config.kubernetes is not None and config.kubernetes.mode is MeshMode.PROCESS:
        complain("Mode process: our hash decides, so the mesh splits nothing (weight 0) and obeys the header.")
        return 0.0
    try:
        store = existing_store(config.store, file)
        store.open()
    except StoreError as error:
        complain(f"No rollout can be read, so this is weight 0: {error}")
        return 0.0
    try:
        rollout = store.current(config.agent)
    finally:
        store.close()
    if rollout is None:
        complain(f"Agent {config.agent!r} has no rollout yet, so this is weight 0; --weight renders another one.")
        return 0.0
    return rollout.weight


def _rendered(mesh: Mesh, weight: float) -> list[dict[str, Any]]:
    from agentcanary.manifests import destination_rule, http_route, virtual_service

    if mesh.api is MeshApi.GATEWAY_API:
        return [http_route(mesh, weight)]
    rule = destination_rule(mesh)
    return [virtual_service(mesh, weight), *([] if rule is None else [rule])]


def _check(file: Path, resources: list[dict[str, Any]], *, as_json: bool) -> None:
    from agentcanary.manifests import drift, faults
    from agentcanary.manifests.reading import read_documents

    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        complain(f"{file} cannot be read: {reason}")
        raise typer.Exit(ExitCode.ERROR) from None
    documents, wrong = read_documents(text)
    wrong += faults(documents)
    differs = drift(documents, resources)
    if as_json:
        print_json(
            {
                "faults": [{"where": one.where, "what": one.what, "remedy": one.remedy} for one in wrong],
                "drift": [{"where": one.where, "what": one.what, "remedy": one.remedy} for one in differs],
            }
        )
    else:
        for kind, listed in (("fault", wrong), ("drift", differs)):
            for one in listed:
                typer.echo(f"{kind}: {one}")
        if not wrong and not differs:
            typer.echo(f"{file}: no fault, and as it should be.")
    if wrong or differs:
        raise typer.Exit(ExitCode.ERROR)
