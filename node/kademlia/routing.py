"""The routing table: k-buckets over the ID space (paper, sections 2.2, 2.4, 4.1 and 4.2).

Plain objects without I/O.  Time is passed in as seconds of a monotonic clock; what would need a message (pinging a
contact) is returned to the caller, who tells the outcome by `heard_from` or `failed`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from kademlia.codec import Packed, pack, pack_array
from kademlia.ids import ID_BITS, to_int

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from kademlia.contact import Contact

#: RPCs in a row without an answer after which a contact may be dropped (paper, section 4.1)
MAX_FAILURES = 5
#: RPCs in a row without an answer after which a contact that answers again makes us doubt ourselves: with the
#: back-off in between it was away for some four seconds, longer than a busy machine keeps a peer from running
CUT_OFF_FAILURES = 3
#: seconds a contact is left alone after its first failure; each further failure doubles it (section 4.1)
BACKOFF = 1.0
#: seconds after which a suspect is tried again in any case
LONGEST_BACKOFF = 512.0
#: candidates kept per bucket, as a multiple of k
REPLACEMENT_FACTOR = 5


class Named(NamedTuple):
    """A contact in the forms in which it is needed all the time."""

    contact: Contact
    #: its ID
    number: int
    #: as it travels when it is named to others
    packed: bytes


@lru_cache(maxsize=1 << 11)  # more than that are kept alive by nothing but invented contacts
def named(contact: Contact) -> Named:
    """Return a contact's forms: the same objects for all peers of a process, which know much the same contacts.

    With a hundred peers that makes a difference of megabytes, most of them outside the processor's caches.
    """
    return Named(contact, to_int(contact.id), pack(contact))


class Entry:
    """A contact in a bucket and how it has behaved."""

    __slots__ = ("bucket", "contact", "failures", "incarnation", "last_seen", "number", "retry_at")

    def __init__(self, contact: Contact, now: float, bucket: Bucket) -> None:
        self.contact, self.number, _ = named(contact)
        self.bucket = bucket
        self.last_seen = now
        #: RPCs in a row that it did not answer
        self.failures = 0
        #: not asked before this moment
        self.retry_at = now
        #: what it said marks its current life; another one means that it was restarted
        self.incarnation: object = None

    @property
    def suspect(self) -> bool:
        """Tell whether its last RPC went unanswered."""
        return self.failures > 0


class Heard(NamedTuple):
    """What hearing from a contact led to."""

    #: it was not known, was restarted, or did not answer for a while: section 2.5 wants it to be given its pairs
    joined: bool = False
    #: it was away for long and was not restarted: it may have been us who were cut off
    cut_off: bool = False
    #: ping this contact: it is the least recently seen of a full bucket, or it had the ID now heard from elsewhere
    probe: Contact | None = None


#: hearing from a contact led to nothing
NOTHING = Heard()


class Bucket:
    """Contacts whose IDs share a prefix of `depth` bits, least recently seen first."""

    __slots__ = ("depth", "entries", "last_lookup", "lower", "replacements")

    def __init__(self, lower: int, depth: int, now: float) -> None:
        self.lower = lower
        self.depth = depth
        self.last_lookup = now
        self.entries: OrderedDict[bytes, Entry] = OrderedDict()
        self.replacements: OrderedDict[bytes, Contact] = OrderedDict()

    @property
    def span(self) -> int:
        """Return how many IDs the bucket covers, from `lower` on."""
        return 1 << (ID_BITS - self.depth)

    def covers(self, number: int) -> bool:
        """Tell whether an ID falls into this bucket."""
        return self.lower <= number < self.lower + self.span


class Cell(NamedTuple):
    """The IDs to which a peer is closer than any contact.

    Of the peer and a contact, that one is closer to an ID which has its bit where the two first differ.  So the
    IDs are those that have the peer's bits at every such place (`mask`); they lie within a range of `size` IDs.
    """

    own: int
    mask: int
    size: int

    @property
    def lowest(self) -> int:
        """Return the first ID of the range."""
        return self.own // self.size * self.size

    @property
    def highest(self) -> int:
        """Return the last ID of the range."""
        return self.lowest + self.size - 1

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and not (number ^ self.own) & self.mask


class RoutingTable:
    """What a peer knows of the network.

    `bits` is the b of section 4.2: buckets that do not cover the own ID are split down to the next multiple of b
    levels, so that a lookup gains up to b bits per step.  A contact that does not answer is left alone for
    `longest_backoff` seconds at most.
    """

    def __init__(
        self, own_id: bytes, ksize: int, now: float, bits: int = 5, longest_backoff: float = LONGEST_BACKOFF
    ) -> None:
        self.own_id = own_id
        self.own_number = to_int(own_id)
        self.ksize = ksize
        self.bits = bits
        self.longest_backoff = longest_backoff
        self._look_again_at = now
        self.buckets = [Bucket(0, 0, now)]
        self._lowers = [0]
        self._entries: dict[bytes, Entry] = {}
        # Of the contacts that answer: their IDs as numbers in ascending order, and whose they are.
        self._live: list[int] = []
        self._contacts: dict[int, Named] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def entries(self) -> Iterator[Entry]:
        """Return every contact with its behaviour, suspects included."""
        for bucket in self.buckets:
            yield from bucket.entries.values()

    def get(self, node_id: bytes) -> Entry | None:
        """Return what is known of a node ID."""
        return self._entries.get(node_id)

    def bucket_for(self, number: int) -> Bucket:
        """Return the bucket into which an ID falls."""
        return self.buckets[bisect_right(self._lowers, number) - 1]

    # -- what was heard -------------------------------------------------------------------------------------------

    def heard_from(self, contact: Contact, now: float, incarnation: object = None) -> Heard:
        """Take note that a valid message came from a contact (section 2.2: on any message)."""
        entry = self._entries.get(contact.id)
        if entry is None:
            return NOTHING if contact.id == self.own_id else self._newcomer(contact, now, incarnation)
        if entry.contact != contact:
            # Somebody else may claim the ID.  The known address keeps it for as long as it answers.
            if not entry.failures:
                return Heard(probe=entry.contact)
            entry.contact = contact
        known = entry.incarnation
        if incarnation is not None:
            entry.incarnation = incarnation
        entry.last_seen = entry.retry_at = now
        entry.bucket.entries.move_to_end(contact.id)
        restarted = known is not None and incarnation is not None and incarnation != known
        away = entry.failures
        if away:
            entry.failures = 0
            self._revive(entry)
        elif not restarted:
            return NOTHING
        cut_off = away >= CUT_OFF_FAILURES and not restarted
        if cut_off and now >= self._look_again_at:  # then others may be back, too
            self._look_again_at = now + BACKOFF  # nobody is to keep us reading the table
            for suspect in self.entries():
                if suspect.failures:
                    suspect.retry_at = min(suspect.retry_at, now)
        return Heard(joined=True, cut_off=cut_off)

    # -- who is there ---------------------------------------------------------------------------------------------

    def _add(self, bucket: Bucket, contact: Contact, now: float) -> Entry:
        entry = bucket.entries[contact.id] = self._entries[contact.id] = Entry(contact, now, bucket)
        self._revive(entry)
        return entry

    def _remove(self, entry: Entry) -> None:
        del entry.bucket.entries[entry.contact.id], self._entries[entry.contact.id]
        self._suspect(entry)

    def _revive(self, entry: Entry) -> None:
        """Name the contact to others again."""
        insort(self._live, entry.number)
        self._contacts[entry.number] = named(entry.contact)

    def _suspect(self, entry: Entry) -> None:
        """Do not name the contact to others any more."""
        if self._contacts.pop(entry.number, None) is not None:
            del self._live[bisect_left(self._live, entry.number)]

    def _newcomer(self, contact: Contact, now: float, incarnation: object) -> Heard:
        number = to_int(contact.id)
        while True:
            bucket = self.bucket_for(number)
            if len(bucket.entries) < self.ksize:
                bucket.replacements.pop(contact.id, None)
                self._add(bucket, contact, now).incarnation = incarnation
                return Heard(joined=True)
            if not self._may_split(bucket, number):
                break
            self._split(bucket, now)
        bucket.replacements[contact.id] = contact
        bucket.replacements.move_to_end(contact.id)
        if len(bucket.replacements) > self.ksize * REPLACEMENT_FACTOR:
            bucket.replacements.popitem(last=False)
        oldest = next(iter(bucket.entries.values()))
        if oldest.failures >= MAX_FAILURES:
            self._replace(oldest, now)
            return Heard(joined=contact.id in bucket.entries)
        # In its back-off it is left alone; `retriable` brings its turn.
        return Heard(probe=oldest.contact if oldest.retry_at <= now else None)

    def _may_split(self, bucket: Bucket, number: int) -> bool:
        if bucket.depth >= ID_BITS:
            return False
        if bucket.covers(self.own_number) or bucket.depth % self.bits:
            return True
        # Section 2.4: every contact of the smallest subtree around the own ID that has at least k of them is kept,
        # even where that means splitting buckets that do not cover the own ID.
        distance = number ^ self.own_number
        if self._sharing(ID_BITS - distance.bit_length() + 1) >= self.ksize:
            return False
        closer = 0
        for entry in self.entries():
            if entry.number ^ self.own_number < distance:
                closer += 1
                if closer >= self.ksize:
                    return False
        return True

    def _split(self, bucket: Bucket, now: float) -> None:
        index = bisect_right(self._lowers, bucket.lower) - 1
        upper = Bucket(bucket.lower + bucket.span // 2, bucket.depth + 1, now)
        upper.last_lookup = bucket.last_lookup
        bucket.depth += 1
        for node_id, entry in list(bucket.entries.items()):
            if not bucket.covers(entry.number):
                upper.entries[node_id] = bucket.entries.pop(node_id)
                entry.bucket = upper
        for node_id in list(bucket.replacements):
            if not bucket.covers(to_int(node_id)):
                upper.replacements[node_id] = bucket.replacements.pop(node_id)
        self.buckets.insert(index + 1, upper)
        self._lowers.insert(index + 1, upper.lower)
        for half in (bucket, upper):
            while half.replacements and len(half.entries) < self.ksize:
                self._promote(half, now)

    def failed(self, contact: Contact, now: float) -> None:
        """Take note that a contact did not answer.

        It is suspected and backed off at once; it is dropped after `MAX_FAILURES` in a row, and only when there is
        another to take its place (section 4.1).
        """
        entry = self._entries.get(contact.id)
        if entry is None or entry.contact != contact:
            return
        if entry.failures and now < entry.retry_at:
            return  # several calls under way when it died are one failure
        entry.failures += 1
        self._suspect(entry)
        entry.retry_at = now + min(self.longest_backoff, BACKOFF * 2.0 ** (min(entry.failures, 64) - 1))
        if entry.failures >= MAX_FAILURES and entry.bucket.replacements:
            self._replace(entry, now)

    def _replace(self, entry: Entry, now: float) -> None:
        self._remove(entry)
        self._promote(entry.bucket, now)

    def _promote(self, bucket: Bucket, now: float) -> None:
        _, contact = bucket.replacements.popitem()  # section 4.1: the most recently seen
        self._add(bucket, contact, now)

    # -- what is asked --------------------------------------------------------------------------------------------

    def closest(self, number: int, count: int, exclude: bytes | None = None) -> list[Contact]:
        """Return the `count` closest contacts to an ID, closest first; suspects are not among them."""
        contacts = self._contacts
        return [contacts[node].contact for node in self._closest(number, count, exclude)]

    def closest_packed(self, number: int, exclude: bytes) -> Packed:
        """Return the k closest contacts to an ID, as `closest` does, in the form in which they travel."""
        contacts = self._contacts
        return pack_array([contacts[node].packed for node in self._closest(number, self.ksize, exclude)])

    def _closest(self, number: int, count: int, exclude: bytes | None) -> list[int]:
        """Return IDs.

        Those that share a prefix with `number` are neighbours in the sorted list, and closer than all others.  So
        prefixes are shortened, from that of its bucket on, until enough share one; only what each step adds is
        sorted by distance.
        """
        live, nearness = self._live, number.__xor__
        wanted = count if exclude is None else count + 1
        depth = self.bucket_for(number).depth
        lower = number >> (ID_BITS - depth) << (ID_BITS - depth)
        start = bisect_left(live, lower)
        end = bisect_left(live, lower + (1 << (ID_BITS - depth)), start)
        found = sorted(live[start:end], key=nearness)
        while len(found) < wanted and depth:
            depth -= 1
            lower = number >> (ID_BITS - depth) << (ID_BITS - depth)
            outer_start = bisect_left(live, lower, 0, start)
            outer_end = bisect_left(live, lower + (1 << (ID_BITS - depth)), end)
            found += sorted(live[outer_start:start] + live[end:outer_end], key=nearness)
            start, end = outer_start, outer_end
        if exclude is not None and (excluded := to_int(exclude)) in self._contacts:
            del found[wanted:]
            if excluded in found:
                found.remove(excluded)
        return found[:count]

    def suspects(self, number: int) -> list[Contact]:
        """Return every suspect, closest first: what is left to try when nobody else is known."""
        suspects = [entry for entry in self.entries() if entry.failures]
        return [entry.contact for entry in sorted(suspects, key=lambda entry: entry.number ^ number)]

    def backed_off(self, contact: Contact, now: float) -> bool:
        """Tell whether this very contact failed lately and is to be left alone."""
        entry = self._entries.get(contact.id)
        return entry is not None and now < entry.retry_at and entry.failures > 0 and entry.contact == contact

    def looked_up(self, number: int, now: float) -> None:
        """Take note of a lookup: the bucket of its target needs no refresh for a while."""
        self.bucket_for(number).last_lookup = now

    def not_looked_up_since(self, moment: float) -> list[Bucket]:
        """Return the buckets due for a refresh (section 2.3)."""
        return [bucket for bucket in self.buckets if bucket.last_lookup < moment]

    def own_cell(self, without: bytes) -> Cell:
        """Return the IDs to which no contact is closer than this peer.

        Suspects and the node ID `without` do not count.
        """
        own, constrained = self.own_number, 0
        for bucket in self.buckets:
            ours = bucket.covers(own)
            for entry in bucket.entries.values():
                if not entry.failures and entry.contact.id != without:
                    constrained |= 1 << ((entry.number ^ own).bit_length() - 1)
                    if not ours:
                        break  # all contacts of another subtree differ from us first at the same bit
        free = ~constrained & (1 << ID_BITS) - 1
        return Cell(self.own_number, constrained, size=1 << free.bit_length())

    def shares_keys(self, contact: Contact) -> bool:
        """Tell whether a contact may be among the k closest to any of the IDs in `own_cell`; False is certain.

        Where contacts differ from us first at each of the bits down to that where this one does, the IDs of the
        cell have our bits there.  Whoever shares more bits with us is closer to them: k - 1 of those are enough.
        """
        number = to_int(contact.id)
        shared = ID_BITS - (number ^ self.own_number).bit_length()
        within = [self._sharing(bits) for bits in range(shared + 2)]
        if within[-1] + 1 < self.ksize:
            return True
        beside = within[shared] - within[shared + 1] - (number in self._contacts)
        return not beside or any(within[bits] == within[bits + 1] for bits in range(shared))

    def _sharing(self, bits: int) -> int:
        """Return how many contacts share at least so many leading bits with the own ID."""
        lower = self.own_number >> (ID_BITS - bits) << (ID_BITS - bits)
        start = bisect_left(self._live, lower)
        return bisect_left(self._live, lower + (1 << (ID_BITS - bits)), start) - start

    def farther_than_closest(self) -> list[Bucket]:
        """Return the buckets farther away than the closest neighbour, which a join refreshes (section 2.3)."""
        closest = self.closest(self.own_number, 1)
        if not closest:
            return []
        distance = to_int(closest[0].id) ^ self.own_number
        shared = ID_BITS - distance.bit_length()
        return [b for b in self.buckets if not b.covers(self.own_number) and b.depth <= shared]

    def silent_since(self, moment: float) -> Contact | None:
        """Return the contact least recently heard from, if that was before a moment; suspects do not count."""
        oldest: Entry | None = None
        for bucket in self.buckets:
            first = next((entry for entry in bucket.entries.values() if not entry.failures), None)
            if first is not None and first.last_seen < moment:
                oldest, moment = first, first.last_seen
        return None if oldest is None else oldest.contact

    def retriable(self, now: float) -> list[Contact]:
        """Return the suspects whose back-off is over, to be pinged."""
        if len(self._live) == len(self._entries):
            return []
        return [e.contact for e in self.entries() if e.failures and e.retry_at <= now]

    def suspect_by_chance(self, rng: random.Random) -> Contact | None:
        """Draw one of all contacts, and return it if it is a suspect, whatever its back-off.

        A dead peer among many live ones is hardly ever drawn.  The more of all are silent, the likelier is it that
        we were cut off from them, and that one of them shows when that is over.
        """
        if len(self._live) == len(self._entries):
            return None
        entry = rng.choice(list(self._entries.values()))
        return entry.contact if entry.failures else None
