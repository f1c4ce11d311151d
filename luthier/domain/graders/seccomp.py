"""The jail's filter of system calls: no new processes, no sockets, no kernel doors. Knows Linux on two machines.

One process means that its limits of memory and time are those of the whole jail; the number of processes alone cannot
be limited for root. Written out as classic BPF, which bubblewrap hands to the kernel (seccomp(2), linux/bpf_common.h).
"""

from __future__ import annotations

import platform
import struct
from typing import Final

from luthier.core.errors import InvalidRequest

# Machine: its number in linux/audit.h, and which of the numbers below are its own.
MACHINES: Final = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
CLONE: Final = (56, 220)
CLONE3: Final = 435
CLONE_THREAD: Final = 0x10000
# Name: number on x86_64 and on aarch64; -1: there is none.
DENIED: Final = {
    "fork": (57, -1),
    "vfork": (58, -1),
    "socket": (41, 198),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    "syslog": (103, 116),
    "fanotify_init": (300, 262),
    "personality": (135, 92),
}
LOAD, EQUAL, AT_LEAST, HAS, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER_AT, MACHINE_AT, FLAGS_AT = 0, 4, 16
ALLOW, KILL, EPERM, ENOSYS = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
X32: Final = 0x40000000  # x86_64's other numbers for the same calls


def program() -> bytes:
    """The filter of this machine. Errors: `InvalidRequest` on one that it does not know."""
    machine = platform.machine()
    if machine not in MACHINES:
        raise InvalidRequest(
            f"Python graders run on {' and '.join(MACHINES)}; this server's machine is {machine}.",
            code="unsupported_value",
        )
    number, column = MACHINES[machine]
    steps = [(LOAD, 0, 0, MACHINE_AT), (EQUAL, 1, 0, number), (RETURN, 0, 0, KILL), (LOAD, 0, 0, NUMBER_AT)]
    steps += [(AT_LEAST, 0, 1, X32), (RETURN, 0, 0, ENOSYS)]
    steps += [(EQUAL, 0, 1, CLONE3), (RETURN, 0, 0, ENOSYS)]  # its flags cannot be read; libc then takes clone
    for numbers in DENIED.values():
        if numbers[column] >= 0:
            steps += [(EQUAL, 0, 1, numbers[column]), (RETURN, 0, 0, EPERM)]
    steps += [(EQUAL, 0, 3, CLONE[column]), (LOAD, 0, 0, FLAGS_AT), (HAS, 1, 0, CLONE_THREAD), (RETURN, 0, 0, EPERM)]
    steps += [(RETURN, 0, 0, ALLOW)]
    return b"".join(struct.pack("HBBI", *step) for step in steps)
