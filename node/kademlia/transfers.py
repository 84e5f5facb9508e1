"""Large values between peers: offered to holders, described to readers, fetched by those who want them.

    publisher or holder                        holder to be
      offer(id, key, size, sha256)  ------->    has it (or newer): answers so at once
                                    <-------    else: the bytes it has so far, and fetches the rest:
                                    <-------  part(id, key, sha256, offset)
      the bytes from there on       ------->    … until all are there, checked and stored
      offer(id, key, size, sha256)  ------->    has it

The receiver sets the pace: only it knows how much it can take.  The offer is repeated until it is answered by True
or False, so that an acknowledgement means what it does for `store`.  Answers to an offer are: True, held; False,
refused (`full`, or larger than its limit, or it got something else under that name from this peer before); a
number of bytes, being fetched; None, too busy now.

A reader is told `{"parts": [size, sha256]}` where a small value would be, and fetches the parts in the same way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, ensureDeferred, succeed

from kademlia.errors import QuotaExceeded, StorageError
from kademlia.parts import HEAD, PART, Shelf, is_large
from kademlia.pulling import Name, Pull, Pulls
from kademlia.rpc import NO_ANSWER, Answer, Reply
from kademlia.speakers import Speakers

if TYPE_CHECKING:
    from collections.abc import Callable

    from kademlia.clock import DelayedCall
    from kademlia.codec import Extension
    from kademlia.contact import Contact
    from kademlia.parts import Parts
    from kademlia.protocol import KademliaProtocol
    from kademlia.records import Record, Value

#: name in extensions: the largest encoded value that the sender takes, in bytes
PARTS: Final = "p"
# As the protocol's others.
VERSION, FULL = "v", "full"
#: seconds between two offers of the same value, at first and in the end
FIRST_PAUSE, LAST_PAUSE = 0.02, 0.1
#: seconds without progress after which an offer is given up, and how long a busy peer is waited for
STALLED, BUSY = 5.0, 30.0
#: seconds after which it is given up whatever progress is reported
GIVEN_UP: Final = 120.0
#: seconds for which a value that could not be stored is refused without being fetched again
REFUSED: Final = 10.0
MAX_REFUSED: Final = 1024
#: seconds by which its life or the last offer of it must differ for what is held to be written again
WORTH_WRITING: Final = 1.0
#: large values that may be assembled at once, at the least
AT_ONCE: Final = 32


class Transfers:
    """The large values of one peer.  `max_value`: bytes of the largest value taken, without its encoding."""

    def __init__(self, protocol: KademliaProtocol, max_value: int) -> None:
        self.max_value = max_value
        self.limit = max_value + HEAD
        self.speakers = Speakers()
        self.shelf = Shelf(protocol.keeper)
        self.pulls = Pulls(self._request_part, protocol.clock, protocol.stats, AT_ONCE * self.limit)
        self._protocol = protocol
        self._keeper = protocol.keeper
        self._clock = protocol.clock
        self._refused: dict[Name, float] = {}
        self._pauses: dict[Deferred[None], DelayedCall] = {}

    def stop(self) -> None:
        """End what is under way."""
        self.pulls.stop()
        for pause, call in list(self._pauses.items()):
            call.cancel()
            self._resume(pause)

    # -- offering -------------------------------------------------------------------------------------------------

    def offer(self, contact: Contact, record: Record, marks: Callable[[], Extension]) -> Deferred[Answer]:
        """Have a contact hold a large record; fires as the answer to a `store` would.  `marks`: its extension."""
        return ensureDeferred(self._offer(contact, record, marks))

    async def _offer(self, contact: Contact, record: Record, marks: Callable[[], Extension]) -> Answer:
        parcel = self.shelf.parcel(record)
        if not self.speakers.known(contact):
            asked = await self._protocol.request(contact, "ping", extension={PARTS: self.limit})
            if not asked.happened or asked.value != contact.id:
                return NO_ANSWER
            self.speakers.learned(contact, asked.extension.get(PARTS))
        if not self.speakers.takes(contact, len(parcel.blob)):
            return Answer(True, False)  # it is there, and cannot hold this
        with self.shelf.lending(parcel):
            return await self._until_held(contact, (parcel.key, *parcel.parts), marks)

    async def _until_held(
        self, contact: Contact, arguments: tuple[object, ...], marks: Callable[[], Extension]
    ) -> Answer:
        started = moved_at = self._clock.seconds()
        pause, taken = FIRST_PAUSE, None
        while True:
            answer = await self._protocol.request(contact, "offer", *arguments, extension=marks())
            if not answer.happened or type(answer.value) is bool:
                return answer
            now = self._clock.seconds()
            if answer.value != taken:
                moved_at, taken = now, answer.value
            if now - moved_at > (BUSY if taken is None else STALLED) or now - started > GIVEN_UP:
                return NO_ANSWER
            await self._pause(pause)
            pause = min(pause * 1.25, LAST_PAUSE)

    def _pause(self, seconds: float) -> Deferred[None]:
        if self._protocol.transport is None:
            return succeed(None)  # the next request fails at once
        pause: Deferred[None] = Deferred()
        self._pauses[pause] = self._clock.callLater(seconds, self._resume, pause)
        return pause

    def _resume(self, pause: Deferred[None]) -> None:
        del self._pauses[pause]
        pause.callback(None)

    # -- being offered --------------------------------------------------------------------------------------------

    def offered(self, source: Contact, name: Name, life: float) -> bool | int | Reply | None:
        """Answer an offer, and begin to fetch what is offered if it is wanted."""
        pull = self.pulls.running(name)
        if pull is not None:
            pull.life = life
            return pull.received
        if name.parts.size > self.limit:
            return Reply(False, {PARTS: self.limit})
        held = self._held(name, life)
        if held is not None:
            return held
        if not self.pulls.trusts(source, name):
            return False
        failed_lately = self._refused.get(name, -1.0) > self._clock.seconds()
        if failed_lately or not self._keeper.has_room(name.key, name.parts.size):
            return self._full()
        return self._begin(source, name, life)

    def _begin(self, source: Contact, name: Name, life: float) -> int | None:
        pull = self.pulls.start(name, source, reading=False)
        if pull is None:
            return None
        pull.life = life
        pull.result().addCallback(self._pulled, pull)
        return pull.received

    def _held(self, name: Name, life: float) -> Reply | bool | None:
        """Return the answer to an offer of what is held, or of something older; None if it is to be fetched."""
        held = self._keeper.get(name.key)
        if held is None:
            return None
        if held.order > (name.version, name.parts.sha256):
            return Reply(True, {VERSION: held.version})
        if not is_large(held.value) or self.shelf.parcel(held).parts != name.parts:
            return None
        now, keeper = self._keeper.wall(), self._keeper
        known = held.version == name.version and not keeper.doubts(held)
        longer = now + min(life, keeper.expire) - held.expires_at
        if known and max(longer, now - held.received_at) < WORTH_WRITING:
            return True
        return self._store(name, held.value, life) or self._full()

    def _pulled(self, value: Value | None, pull: Pull) -> None:
        if value is not None and not self._store(pull.name, value, pull.life):
            if len(self._refused) >= MAX_REFUSED:
                self._refused.clear()
            self._refused[pull.name] = self._clock.seconds() + REFUSED

    def _store(self, name: Name, value: Value, life: float) -> bool:
        try:
            self._keeper.accept(name.key, value, name.version, life)
        except (QuotaExceeded, StorageError) as error:
            self._protocol.log.debug("not stored: {error}", error=error)
            return False
        return True

    def _full(self) -> Reply:
        self._protocol.stats.rpcs["offer", "full"] += 1
        return Reply(False, {FULL: True})

    # -- parts ----------------------------------------------------------------------------------------------------

    def part(self, key: bytes, digest: bytes, offset: int) -> bytes | None:
        """Return the bytes of a large value from an offset on, None when it is not here."""
        blob = self.shelf.blob(key, digest)
        if blob is None:
            return None
        part = blob[offset : offset + PART]
        self._protocol.stats.part_bytes["served"] += len(part)
        return part

    def _request_part(self, source: Contact, name: Name, offset: int, on_slow: Callable[[], None]) -> Any:
        return self._protocol.request(source, "part", name.key, name.parts.sha256, offset, on_slow=on_slow)

    async def fetch(self, holder: Contact, key: bytes, version: int, parts: Parts) -> Value | None:
        """Fetch a large value from a holder that said it has it; None when it cannot or must not be had there."""
        name = Name(key, version, parts)
        until = self._clock.seconds() + BUSY
        while parts.size <= self.limit and self.pulls.trusts(holder, name):
            pull = self.pulls.running(name) or self.pulls.start(name, holder, reading=True)
            if pull is not None:
                value = await pull.result()
                if value is not None or pull.source.home == holder.home:
                    return value
            if self._clock.seconds() > until or self._protocol.transport is None:
                break
            await self._pause(LAST_PAUSE)
        return None
