# ruff: noqa: E501 (programs in tables)
"""Programs that attack the machine they run on. They call `reached` with what they got; `world` shows what they changed.

FOLDER, TCP, UDP, VICTIM and MARK are names of a `world`.
"""

PRELUDE = """
import ctypes, mmap, os, resource, shutil, signal, socket, subprocess, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
def reached(what):
    print("REACHED")
    raise SystemExit(f"REACHED {what}")
def each(*attempts):
    for attempt in attempts:
        try: attempt()
        except (OSError, ValueError, RuntimeError): pass
"""

# Harmless outside the sandbox, where each reaches something: so it is the sandbox that stops them.
REACHING = {
    # files
    "reads a file": "reached(open('FOLDER/secret').read())",
    "reads below an open folder": "reached(os.read(os.open('secret', os.O_RDONLY, dir_fd=os.open('FOLDER', os.O_RDONLY)), 99))",
    "reads through ..": "reached(open('../' * 30 + 'FOLDER/secret').read())",
    "reads through a symbolic link": "os.symlink('FOLDER/secret', 'link')\nreached(open('link').read())",
    "reads through a command": "reached(subprocess.run(['cat', 'FOLDER/secret'], capture_output=True, check=True).stdout)",
    "reads through a shell": "reached(subprocess.run('cat FOLDER/sec*', shell=True, capture_output=True, check=True).stdout)",
    "reads through a process": "reached(open('/proc/VICTIM/cwd/secret').read())",
    "reads a mapped file": "reached(mmap.mmap(os.open('FOLDER/secret', os.O_RDONLY), 0, prot=mmap.PROT_READ)[:])",
    "copies a file": "shutil.copy('FOLDER/secret', 'copy')\nreached(open('copy').read())",
    "lists a folder": "reached(os.listdir('FOLDER'))",
    "reads the users": "reached(open('/etc/passwd').read())",
    "reads an environment": "reached(open('/proc/VICTIM/environ').read())",
    "reads a command line": "reached(open('/proc/VICTIM/cmdline').read())",
    "looks for processes": "reached([name for name in os.listdir('/proc') if name == 'VICTIM'][0]) if os.path.exists('/proc') else None",
    "reads the mounts": "reached(open('/proc/VICTIM/mounts').read())",
    "appends": "open('FOLDER/secret', 'a').write('x')",
    "overwrites": "open('FOLDER/secret', 'w').write('x')",
    "truncates": "os.truncate('FOLDER/secret', 1)",
    "removes": "os.remove('FOLDER/secret')",
    "removes a tree": "shutil.rmtree('FOLDER', ignore_errors=True)",
    "renames": "os.rename('FOLDER/secret', 'FOLDER/other')",
    "replaces": "open('own', 'w').write('x')\nshutil.move('own', 'FOLDER/secret')",
    "creates a file": "open('FOLDER/new', 'w').close()",
    "creates a folder": "os.mkdir('FOLDER/new')",
    "creates a link": "os.symlink('secret', 'FOLDER/new')",
    "creates a hard link": "os.link('FOLDER/secret', 'FOLDER/new')",
    "creates a pipe": "os.mkfifo('FOLDER/new')",
    "changes permissions": "os.chmod('FOLDER/secret', 0)",
    "changes times": "os.utime('FOLDER/secret', (1, 1))",
    "leaves a file in /tmp": "open('/tmp/MARK', 'w').write('x')",
    "leaves a file in shared memory": "open('/dev/shm/MARK', 'w').write('x')",
    "leaves a file in /var/tmp": "open('/var/tmp/MARK', 'w').write('x')",
    # sockets
    "connects": "socket.create_connection(('127.0.0.1', TCP), 5)",
    "connects from a command": "subprocess.run([sys.executable, '-c', 'import socket; socket.create_connection((\"127.0.0.1\", TCP), 5)'])",
    "sends a datagram": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', UDP))",
    "connects to a local socket": "socket.socket(socket.AF_UNIX).connect('FOLDER/socket')",
    "connects to an abstract socket": "socket.socket(socket.AF_UNIX).connect('\\0MARK')",
    "binds a local socket": "socket.socket(socket.AF_UNIX).bind('FOLDER/new')",
    # processes
    "stops a process": "os.kill(VICTIM, signal.SIGSTOP)",
    "kills a process": "os.kill(VICTIM, signal.SIGKILL)",
    "kills by descriptor": "signal.pidfd_send_signal(os.pidfd_open(VICTIM), signal.SIGKILL)",
    "kills a thread": "libc.syscall({'x86_64': 234, 'aarch64': 131}[os.uname().machine], VICTIM, VICTIM, 9)",
    "queues a signal": "libc.sigqueue(VICTIM, 9, ctypes.c_void_p(0))",
    "sends signals of files": "import fcntl, termios\na, b = os.pipe()\nfcntl.fcntl(a, fcntl.F_SETOWN, VICTIM)\nfcntl.fcntl(a, 10, 9)\n"
    "fcntl.fcntl(a, fcntl.F_SETFL, os.O_ASYNC)\nos.write(b, b'x')",
    "changes a priority": "os.setpriority(os.PRIO_PROCESS, VICTIM, 19)",
    "changes an affinity": "os.sched_setaffinity(VICTIM, {min(os.sched_getaffinity(0))})",
    "changes limits": "resource.prlimit(VICTIM, resource.RLIMIT_CPU, (99, 99))",
    "detects a process": "os.kill(VICTIM, 0)\nreached('VICTIM')",
    # memory that outlives processes
    "leaves shared memory": "libc.shmget(0x7A11, 4096, 0o1666)",
    "leaves a queue of messages": "libc.msgget(0x7A11, 0o1666)",
    "leaves semaphores": "libc.semget(0x7A11, 1, 0o1666)",
}  # fmt: skip

# Of no use, or dangerous, outside the sandbox.
ATTACKING = {
    "reads devices": "for name in os.listdir('/dev'):\n    if name.startswith(('sd', 'vd', 'nvme', 'mem', 'kmsg')): reached(os.read(os.open(f'/dev/{name}', os.O_RDONLY), 9))",
    "makes a device": "os.mknod('device', 0o20600, os.makedev(1, 1))\nreached(os.read(os.open('device', os.O_RDONLY), 9))",
    "reads inherited descriptors": "for number in range(5, 256):\n    try: reached(os.read(number, 99))\n    except OSError: pass",
    "reads the memory of a process": "reached(open('/proc/VICTIM/mem', 'rb').read(1))",
    "reads the memory of its parent": "reached(open(f'/proc/{os.getppid()}/mem', 'rb').read(1))",
    "writes the memory of its parent": "reached(open(f'/proc/{os.getppid()}/mem', 'wb'))",
    "copies memory": "ask = (ctypes.c_ulong * 2)(0, 8)\nif libc.process_vm_readv(VICTIM, ask, 1, ask, 1, 0) > 0: reached('memory')",
    "traces a process": "if libc.ptrace(16, VICTIM, 0, 0) == 0: reached('ptrace')",
    "traces its parent": "if libc.ptrace(16, os.getppid(), 0, 0) == 0: reached('ptrace')",
    "reads the root of a process": "reached(open(f'/proc/VICTIM/root/FOLDER/secret').read())",
    "enters namespaces": "for name in ('mnt', 'net', 'user', 'pid'):\n    each(lambda: libc.setns(os.open(f'/proc/VICTIM/ns/{name}', os.O_RDONLY), 0))\nreached(open('FOLDER/secret').read())",
    "makes namespaces": "libc.unshare(0x10020000)\nlibc.mount(b'/', b'/tmp', None, 4096 | 16384, None)\nreached(open('FOLDER/secret').read())",
    "mounts": "libc.mount(b'tmpfs', b'FOLDER', b'tmpfs', 0, None)\nlibc.mount(b'none', b'/', None, 1 << 20, None)",
    "unmounts": "for place in (b'/tmp', b'/usr', b'/dev', b'/'): libc.umount2(place, 2)\nreached(open('FOLDER/secret').read())",
    "leaves by chroot": "os.mkdir('x')\ntop = os.open('/', os.O_RDONLY)\neach(lambda: os.chroot('x'), lambda: os.fchdir(top))\nfor _ in range(99): os.chdir('..')\neach(lambda: os.chroot('.'))\nreached(open('FOLDER/secret').read())",
    "opens by handle": "handle = (ctypes.c_char * 64)(8, 0, 0, 0, 1, 0, 0, 0, 2)\nnumber = libc.open_by_handle_at(os.open('/usr', os.O_RDONLY), handle, os.O_RDONLY)\nif number >= 0: reached(os.listdir(number))",
    "becomes root": "each(lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.setgroups([0]), lambda: os.setresuid(0, 0, 0))\nif 0 in (os.geteuid(), os.getegid()): reached('root')",
    "runs a setuid program": "open('run', 'w').write('#!/bin/sh\\nid -u')\nos.chmod('run', 0o6755)\nfor command in ('./run', 'sudo -n id -u', 'su -c id', 'pkexec id -u'):\n    done = subprocess.run(command, shell=True, capture_output=True)\n    if done.stdout.strip() == b'0': reached('root')",
    "renames the host": "libc.sethostname(b'hostile', 7)",
    "sets the clock": "each(lambda: time.clock_settime(time.CLOCK_REALTIME, 0))\nif time.time() < 1e9: reached('clock')",
    "loads programs into the kernel": "number = {'x86_64': 321, 'aarch64': 280}[os.uname().machine]\nif libc.syscall(number, 5, (ctypes.c_char * 128)(), 128) >= 0: reached('bpf')",
    "calls the kernel by old numbers": "for number in (0x40000000 + 39, 0x40000000 + 2): libc.syscall(number, b'FOLDER/secret', 0, 0)",
    "calls the kernel as 32 bits": "if os.uname().machine == 'x86_64':\n    code = mmap.mmap(-1, 4096, prot=7)\n    code.write(b'\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3')\n    ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()",
    "writes kernel settings": "for file in ('/proc/sys/kernel/core_pattern', '/proc/sysrq-trigger', '/sys/kernel/uevent_helper', '/sys/fs/cgroup/cgroup.procs'):\n    each(lambda: reached(open(file, 'w')))",
    "kills all": "each(lambda: os.kill(-1, 9))",
    "kills its group": "each(lambda: os.killpg(0, 9))",
    "kills its ancestors": "for number in (os.getppid(), 1, 2, 3): each(lambda: os.kill(number, 9), lambda: os.kill(-number, 9))",
    "interrupts its ancestors": "for number in (2, 10, 14, 15, 17, 19, 20, 34): each(lambda: os.kill(os.getppid(), number), lambda: os.kill(1, number))",
    "takes the terminal": "each(lambda: reached(open('/dev/tty')), lambda: reached(os.open('/dev/ptmx', os.O_RDWR)))",
    "leaves a message queue": "libc.mq_open(b'/MARK', os.O_CREAT | os.O_RDWR, 0o666, None)",
    "leaves a daemon": "if os.fork() == 0:\n    each(os.setsid)\n    if os.fork() == 0: os.execv('/usr/bin/sleep', ['sleep', '600'])",
    "leaves a daemon that ignores signals": "for number in range(1, 65): each(lambda: signal.signal(number, signal.SIG_IGN))\nfor _ in range(3):\n    if os.fork(): os._exit(0)\n    each(os.setsid)\nos.closerange(0, 99)\ntime.sleep(600)",
    "outlives its parent": "libc.prctl(1, 0, 0, 0, 0)\nlibc.prctl(36, 1, 0, 0, 0)\nif os.fork() == 0: time.sleep(600)\nos._exit(0)",
    "hides from being counted": "libc.prctl(4, 0, 0, 0, 0)\nif os.fork() == 0: time.sleep(600)",
    "leaves a thread": "threading.Thread(target=time.sleep, args=(600,)).start()\nraise ValueError",
    "nests folders": "for _ in range(2000):\n    os.mkdir('x')\n    os.chdir('x')\nos.mkdir('locked', 0)",
    "traps exits": "import atexit\natexit.register(time.sleep, 600)\nsys.exit(0)",
}  # fmt: skip

# Use up what the machine has.
EXHAUSTING = {
    "forks": "while True:\n    try: os.fork()\n    except OSError: os._exit(0)",
    "forks and hides": "while True:\n    each(os.setsid, os.setpgrp)\n    if os.fork(): os._exit(0)",
    "starts threads": "while True: threading.Thread(target=time.sleep, args=(600,), daemon=True).start()",
    "takes memory": "data = []\nwhile True: data.append(b'x' * (8 << 20))",
    "takes memory in many processes": "for _ in range(8):\n    if os.fork() == 0:\n        data = b'x' * (40 << 20)\n        time.sleep(600)\ntime.sleep(600)",
    "takes memory in files": "held = [os.memfd_create('x') for _ in range(40)]\nfor number in held: os.write(number, bytes(1 << 20))\ntime.sleep(600)",
    "takes shared memory": "for _ in range(9):\n    number = libc.shmget(0, 40 << 20, 0o1666)\n    if number < 0: os._exit(1)\n    place = libc.shmat(number, None, 0)\n    ctypes.memset(place, 1, 40 << 20)\n    libc.shmdt(ctypes.c_void_p(place))\ntime.sleep(600)",
    "writes a big file": "with open('x', 'wb') as file:\n    while True: file.write(bytes(1 << 20))",
    "writes many files": "for number in range(9999): open(str(number), 'wb').write(bytes(9999))",
    "writes deleted files": "held = []\nwhile True:\n    held.append(open('x', 'wb', buffering=0))\n    held[-1].write(bytes(1 << 20))\n    os.remove('x')",
    "prints": "while True: print('x' * 9999)",
    "opens files": "held = []\nwhile True: held.append(open('/dev/null'))",
    "fills pipes": "held = []\nwhile True:\n    held.append(os.pipe())\n    os.set_blocking(held[-1][1], False)\n    each(lambda: os.write(held[-1][1], bytes(1 << 20)))",
    "loops": "while True: pass",
    "sleeps with nothing open": "os.closerange(0, 99)\ntime.sleep(600)",
    "stops itself": "os.kill(os.getpid(), signal.SIGSTOP)\ntime.sleep(600)",
    "recurses": "sys.setrecursionlimit(10 ** 9)\ndef f(): return f()\nf()",
    "breaks its memory": "ctypes.string_at(0)",
}  # fmt: skip
