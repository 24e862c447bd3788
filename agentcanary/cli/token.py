"""``agentcanary token`` and ``tester``: credentials, shown once."""

from __future__ import annotations

from typing import Annotated

import typer

from agentcanary.cli.options import CONFIG_FILE, ConfigOption, JsonOption
from agentcanary.cli.output import Line, complain, print_json, show


def register(app: typer.Typer) -> None:
    """Add the commands to an application."""
    app.command("token")(token)
    app.command("tester")(for_testers)


def token(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose it is: the actor in the audit log.")] = "operator",
    scope: Annotated[
        list[str] | None, typer.Option("--scope", metavar="SCOPE", help="read, operate or record; more than one.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a bearer token for the API, the pages and outcomes. It is shown once; only its hash goes into the file."""
    from agentcanary.config import Scope
    from agentcanary.errors import ConfigError
    from agentcanary.security import digest_of, new_token

    scopes = scope or [Scope.READ.value, Scope.OPERATE.value]
    for one in scopes:
        if one not in set(Scope):
            raise ConfigError([f"agentcanary token: scope {one!r} is unknown; known are {', '.join(Scope)}"])
    made = new_token()
    entry = f"{{name: {name}, scopes: [{', '.join(scopes)}], sha256: {digest_of(made).hex()}}}"
    if as_json:
        print_json({"token": made, "name": name, "scopes": scopes, "sha256": digest_of(made).hex()})
        return
    show(
        [
            Line((made, "bold")),
            Line(),
            Line("It is shown here only. Put its hash into canary.yaml, under security.tokens:"),
            Line(f"- {entry}", indent=2),
            Line("or the token itself into the environment of the workers: AGENTCANARY_TOKEN opens everything,"),
            Line("AGENTCANARY_READ_TOKEN, AGENTCANARY_OPERATE_TOKEN and AGENTCANARY_RECORD_TOKEN what they say."),
        ]
    )


def for_testers(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose it is.")],
    expires: Annotated[str, typer.Option("--expires", metavar="DURATION", help="At most 30d.")] = "8h",
    arm: Annotated[str, typer.Option("--arm", metavar="ARM", help="canary or stable.")] = "canary",
    config: ConfigOption = CONFIG_FILE,
    as_json: JsonOption = False,
) -> None:
    """Make a signed token with which a tester forces an arm: in the header or the cookie x-canary.

    What a tester does is in no statistic; a confirmed safety violation still stops the canary.
    """
    import os

    from agentcanary.cli.seat import seat
    from agentcanary.durations import parse_duration
    from agentcanary.errors import ConfigError
    from agentcanary.security import Forcing
    from agentcanary.shared_secrets import shared_secrets
    from agentcanary.status.figures import moment
    from agentcanary_analysis.aggregates import Arm

    with seat(config, create=True) as at:
        if not at.config.security.testers:
            raise ConfigError([f"{config}: security.testers is false: nobody would believe it; write testers: true"])
        secret = shared_secrets(at.config.security, os.environ, at.store).testers
        now = at.clock()
        try:
            until = now + parse_duration(expires)
            made = Forcing(at.agent, secret=secret).token(name, Arm(arm), expires_at=until, now=now)
        except ValueError as error:
            raise ConfigError([f"agentcanary tester: {error}"]) from None
    if as_json:
        print_json({"token": made, "agent": at.agent, "name": name, "arm": arm, "expires_at": int(until)})
        return
    complain(f"{name} gets {arm} of {at.agent} until {moment(until)}, with the header")
    show([Line(f"x-canary: {made}")])
