"""Make `twist kademlia --config FILE` and `twistd kademlia --config FILE` work.

This module is imported whenever any Twisted plugin is looked for, so it imports nothing of the peer.
"""

from twisted.application.service import IServiceMaker
from twisted.logger import LogLevel
from twisted.plugin import IPlugin
from twisted.python import usage
from zope.interface import implementer


class Options(usage.Options):
    """Command line of the peer."""

    synopsis = "[options]"
    optParameters = [["config", "c", None, "The peer's TOML configuration file."]]  # noqa: N815, RUF012


@implementer(IServiceMaker, IPlugin)
class PeerMaker:
    """Makes the service of one peer."""

    tapname = "kademlia"
    description = "A Kademlia peer with a webserver."
    options = Options

    def makeService(self, options):  # noqa: N802
        """Return the service; a peer that cannot start ends the process with one line and status 1."""
        if options["config"] is None:
            raise SystemExit("kademlia: name the configuration file: --config FILE")
        from kademlia.launch import launch  # noqa: PLC0415

        service = launch(options["config"])
        if "fileLogObserverFactory" in options.parent:  # twist, which filters and formats by itself
            if service.settings.log_level == "debug":
                options.parent["logLevel"] = LogLevel.debug
            if service.settings.log_format == "json":
                from kademlia.logs import json_observer  # noqa: PLC0415

                options.parent["fileLogObserverFactory"] = json_observer
        return service


kademlia = PeerMaker()
