"""The laboratory of tests/net/all: a network of its own for servers and guests, recorded guests in it, and their
verification without one.

    guest -- user network -- this namespace (near) -- a router -- the far host

Everything is in namespaces of an unprivileged user's; nothing outside this machine is talked to, and nothing of its own
network.
"""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
REPRISE = os.path.join(ROOT, os.environ.get("CARGO_TARGET_DIR", "target"), "release/reprise")
GUESTS = os.path.join(ROOT, "tests/guests/out")
INSIDE = "REPRISE_NET_LAB"
PATIENCE_S = 900

# Addresses as the guest has them; near, router and far are told apart by the groups of a policy, too.
NAMES = {
    "host": "10.0.2.2", "host6": "fd00::2", "near": "198.51.100.1", "router": "198.51.100.2", "far": "203.0.113.2",
    "router6": "2001:db8:1::2", "far6": "2001:db8:2::2", "nobody": "203.0.113.77",
}


class Failure(Exception):
    """What a check found to be wrong."""


def enter():
    """Starts this program again in a network of its own, unless it is there already."""
    if os.environ.get(INSIDE):
        return
    words = ["unshare", "--user", "--map-root-user", "--net"]
    if subprocess.run([*words, "true"], stderr=subprocess.DEVNULL).returncode:
        sys.exit("all: this host gives no network namespace to a user (unshare --user --net); where it has such a "
                 "setting: sysctl kernel.apparmor_restrict_unprivileged_userns=0")
    os.execvpe(words[0], [*words, sys.executable, *sys.argv], {**os.environ, INSIDE: "yes"})


def sh(line):
    subprocess.run(["sh", "-ec", line], check=True)


class Lab:
    """The network, what runs in it, and a folder for files."""

    def __init__(self, folder, verbose):
        self.folder, self.verbose, self.processes = folder, verbose, []
        sh("ip link set lo up; echo 0 0 >/proc/sys/net/ipv4/ping_group_range")
        router, far = (self.start(["unshare", "--net", "sleep", "infinity"]).pid for _ in range(2))
        for pid in (router, far):
            self.wait_for(lambda pid=pid: os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net"))
        sh(f"""
            set_up() {{ # NAMESPACE DEVICE ADDRESS ADDRESS6
                $1 ip address add $3/24 dev $2; $1 ip address add $4/64 dev $2 nodad
                $1 ip link set $2 up; $1 ip link set lo up
            }}
            router="nsenter -t {router} -n" far="nsenter -t {far} -n"
            ip link add near type veth peer name near netns {router}
            $router ip link add far type veth peer name far netns {far}
            set_up '' near {NAMES["near"]} 2001:db8:1::1
            set_up "$router" near {NAMES["router"]} {NAMES["router6"]}
            set_up "$router" far 203.0.113.1 2001:db8:2::1
            set_up "$far" far {NAMES["far"]} {NAMES["far6"]}
            $router sh -ec 'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
                echo 0 >/proc/sys/net/ipv4/icmp_ratelimit; echo 0 >/proc/sys/net/ipv6/icmp/ratelimit'
            ip route add default via {NAMES["router"]}; ip -6 route add default via {NAMES["router6"]}
            $far ip route add default via 203.0.113.1; $far ip -6 route add default via 2001:db8:2::1""")

    def path(self, name):
        return os.path.join(self.folder, name)

    def start(self, words, **more):
        more.setdefault("stdin", subprocess.DEVNULL)
        if not self.verbose:
            more.setdefault("stderr", subprocess.DEVNULL)
            more.setdefault("stdout", subprocess.DEVNULL)
        process = subprocess.Popen(words, **more)
        self.processes.append(process)
        return process

    def wait_for(self, holds, process=None, patience_s=PATIENCE_S):
        end = time.monotonic() + patience_s
        while not holds():
            if process is not None and process.poll() is not None and not holds():
                raise Failure(f"{process.args[0]} ended early, with {process.returncode}")
            if time.monotonic() > end:
                raise Failure(f"nothing for {patience_s} s")
            time.sleep(0.02)

    def listens(self, process, port, address="127.0.0.1"):
        """When `process` listens there."""
        def holds():
            with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as attempt:
                return attempt.connect_ex((address, port)) == 0
        self.wait_for(holds, process, 20)

    def payload(self, size):
        """A file that cannot be compressed, and its SHA-256."""
        path = self.path("payload")
        if not os.path.exists(path) or os.path.getsize(path) != size:
            sh(f"head -c {size} /dev/urandom >{path}")
        return path, sum_of(path)

    def web(self, path, *address):
        """The port at which a web server has this file."""
        server = self.start([os.path.join(HERE, "server"), path, *address], stdout=subprocess.PIPE)
        return int(server.stdout.readline())

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        self.processes = []


def sum_of(path):
    return subprocess.run(["sha256sum", path], check=True, stdout=subprocess.PIPE).stdout.decode().split()[0]


class Qmp:
    """A client of a machine's control socket."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.file = self.socket.makefile()
        self.file.readline()
        self.execute("qmp_capabilities")

    def execute(self, command, **arguments):
        self.socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        while True:
            answer = json.loads(self.file.readline())
            if "error" in answer:
                raise Failure(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def icount(self):
        return self.execute("query-replay")["icount"]


def boot(words):
    """Debian's kernel with our init, which does what it is told; QEMU takes the same."""
    return ["-m", "512M", "-bios", f"{GUESTS}/fw_dynamic.bin", "-kernel", f"{GUESTS}/Image",
            "-initrd", f"{GUESTS}/initramfs.cpio", "-append", f"console=ttyS0 {words} reprise.poweroff"]


class Guest:
    """A guest that runs a check of tests/net/guest, recorded unless it says otherwise."""

    def __init__(self, lab, check, words=None, settings=(), record=True, arguments=(), **told):
        self.lab, self.name, self.begun = lab, check, time.monotonic()
        self.recording = lab.path(f"{check}.rec") if record else None
        self.console, self.control = lab.path(f"{check}.console"), lab.path(f"{check}.control")
        shutil.rmtree(lab.path(f"{check}.rec"), ignore_errors=True)
        for path in (self.console, self.control):
            if os.path.exists(path):
                os.remove(path)
        if words is None:
            words = "reprise.test=dhcp,script"
            script = self.script({"check": check, **NAMES, **told})
            arguments = (*arguments, "--disk", f"disk0={GUESTS}/network.ext4", "--disk", f"disk1={script}")
            settings = ("profile=\"all\"", *settings)
        self.process = lab.start([
            REPRISE, *(["record", "-o", self.recording] if record else ["run"]), os.path.join(ROOT, "configs/net.toml"),
            "--control", self.control, "--port", f"uart0=file:{self.console}", *boot(words),
            *(word for setting in settings for word in ("--set", f"net.user0.{setting}")), *arguments,
        ], stderr=open(lab.path(f"{check}.errors"), "wb"))

    def script(self, told):
        path = self.lab.path(f"{self.name}.script")
        with open(os.path.join(HERE, "guest")) as script:
            text = "".join(f"{name}='{value}'\n" for name, value in told.items()) + script.read()
        with open(path, "wb") as disk:
            # A disk is whole sectors.
            disk.write(text.encode() + b"\n" * (-len(text.encode()) % 4096))
        return path

    def said(self):
        try:
            with open(self.console, errors="replace") as console:
                return console.read()
        except FileNotFoundError:
            return ""

    def wait_for(self, text):
        self.lab.wait_for(lambda: text in self.said(), self.process)

    def qmp(self):
        return Qmp(self.control)

    def ended(self):
        """Waits for the end, in seconds since the beginning, which must be a good one."""
        try:
            code = self.process.wait(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGTERM)
            raise Failure("the guest does not come to its end") from None
        if code:
            raise Failure(f"the run ended with {code}: {open(self.lab.path(f'{self.name}.errors')).read()}")
        return time.monotonic() - self.begun

    def figures(self):
        """What the check said it did, if it did."""
        lines = [line.strip() for line in self.said().splitlines() if line.startswith("@")]
        for line in lines:
            if "FAILED" in line:
                raise Failure(line[1:])
        if "@check ok" not in lines:
            raise Failure("the guest did not come to the end of the check")
        return "; ".join(line.removeprefix("@figure ") for line in lines if line.startswith("@figure "))

    def verified(self):
        """Replays it where there is no network, and says how long that took."""
        begun = time.monotonic()
        said = subprocess.run(["unshare", "--net", REPRISE, "verify", "--json", self.recording], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=PATIENCE_S)
        if said.returncode or json.loads(said.stdout)["result"] != "identical":
            raise Failure(f"verify: {said.stdout.decode()} {said.stderr.decode()}")
        return time.monotonic() - begun

    def size(self):
        """Of the log, in bytes."""
        return sum(entry.stat().st_size for entry in os.scandir(os.path.join(self.recording, "log")))
