"""A libvirt of the test's own, with guests that boot in seconds: nothing of the machine's libvirt is touched, nothing stays.

    with libvirt_kit.Libvirt(folder) as libvirt:        # two or more may run side by side
        guest = libvirt_kit.Guest(libvirt, "web", disk_mib=[64, 32])
        guest.start()
        guest.wait_ack(10)                              # records that it wrote and synced, as its console says

Each instance lives in namespaces of its own (mounts, processes, network): /var/lib, /var/cache, /var/log and /run are folders below
`folder` for it, and everything in it dies with its first process, which dies with the test. libvirtd alone can be killed and
started again. Needs root and Debian's libvirt-daemon, libvirt-daemon-driver-qemu, libvirt-clients, qemu-system-x86, qemu-utils and
linux-image-cloud-amd64: is_missing() says so and skips the test.

A guest is Debian's cloud kernel and tests/lib/guest_init.c as its only program, run without acceleration (TCG)."""
import glob
import lzma
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import tap

SOURCE = os.path.abspath(os.environ.get("FAR_SOURCE", os.path.join(os.path.dirname(__file__), "../..")))
BUILD = os.path.abspath(os.environ.get("FAR_BUILD", "."))
SLOW = float(os.environ.get("FAR_SLOW", "1"))  # factor on time limits (tests/run --slow)
MODULES = ("virtio_pci", "virtio_blk", "virtio_console", "virtio_net", "evdev", "button")
# The first process of the namespaces: nobody's children are reaped by the kernel, so that no dead guest is taken for a living one.
FIRST = """
import os, signal, subprocess, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
base = sys.argv[1]
for name, place in (("lib", "/var/lib"), ("cache", "/var/cache"), ("log", "/var/log"), ("run", "/run")):
    os.makedirs(os.path.join(base, name), exist_ok=True)
    os.system("mount --bind '%s' '%s'" % (os.path.join(base, name), place))
for name, line in (("passwd", "libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin"), ("group", "libvirt-qemu:x:64055:"),
                   ("group", "kvm:x:64056:")):
    copy, place = os.path.join(base, name), "/etc/" + name
    text = open(place).read()
    if ("\\n" + line.split(":")[0] + ":") not in text:  # Debian's libvirtd looks for its user even where another one is set
        open(copy, "w").write(text + line + "\\n")
        os.system("mount --bind %s %s" % (copy, place))
os.makedirs("/var/lib/libvirt/dnsmasq", exist_ok=True)
os.system("ip link set lo up")
print("ready", flush=True)
signal.pause()
"""


def until(condition, seconds, what):
    seconds *= SLOW
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError("not within %d s: %s" % (seconds, what() if callable(what) else what))
        time.sleep(0.02)  # far-poll
    return found


def die_with_parent():
    import ctypes
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def in_a_network_of_its_own():
    """Begins the program anew in a network namespace of its own: what it starts, and libvirts that share it (own_network=False), reach each
    other and their guests, and nothing else. Call it first in main()."""
    if os.environ.get("FAR_OWN_NETWORK") != str(os.getppid()):
        script = "ip link set lo up && FAR_OWN_NETWORK=$PPID exec \"$0\" \"$@\""
        os.execvp("unshare", ["unshare", "--net", "--", "sh", "-c", script, sys.executable, *sys.argv])


def need(*more):
    """Skips the test where libvirt, QEMU, a kernel for guests, or the right to make namespaces is missing."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    if os.geteuid() != 0:
        raise tap.Skip("a libvirt of the test's own needs root")
    for name in ("libvirtd", "virsh", "qemu-system-x86_64", "qemu-img", "unshare", "nsenter", "ip", "mkfs.ext4", "cpio", "cc", *more):
        if shutil.which(name) is None:
            raise tap.Skip("%s is not installed" % name)
    if not kernels():
        raise tap.Skip("linux-image-cloud-amd64 is not installed")
    if not os.access(os.path.join(BUILD, "src/node/farshore-kvm"), os.X_OK):
        raise tap.Skip("this build has no farshore-kvm: libvirt-dev was missing")
    made = subprocess.run(["unshare", "--mount", "--pid", "--net", "--fork", "mount", "-t", "tmpfs", "none", "/run"], capture_output=True,
                          text=True, check=False)
    if made.returncode != 0:
        raise tap.Skip("no namespaces of the test's own here: " + made.stderr.strip())


def is_missing(*more):
    """Says so, as a whole test that is skipped."""
    try:
        need(*more)
    except tap.Skip as reason:
        print("1..0 # SKIP %s" % reason)
        return True
    return False


def kernels():
    return sorted(glob.glob("/boot/vmlinuz-*-cloud-amd64"))


def tool(*argv, check=True, timeout=120, **more):
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout * SLOW, **more)
    if check and done.returncode != 0:
        raise AssertionError("%s: %s" % (" ".join(argv), (done.stdout + done.stderr).strip()))
    return done.stdout


def processes(is_one):
    """Ids of those whose command line, as a list of words, is one that is looked for."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/cmdline" % pid, "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue
        if is_one(words):
            found.append(int(pid))
    return found


class Libvirt:
    def __init__(self, folder, own_network=True):
        self.namespaces = ["--mount", "--pid", *(["--net"] if own_network else [])]
        self.folder = os.path.abspath(folder)
        self.base = os.path.join(self.folder, "ns")
        self.etc = os.path.join(self.folder, "etc")
        self.socket = os.path.join(self.base, "run/libvirt/libvirt-sock")
        self.uri = "qemu:///system?socket=" + self.socket
        self.keeper = self.first = self.daemon = None

    # ---- its processes ----

    def __enter__(self):
        for place in (self.base, self.etc):
            os.makedirs(place, exist_ok=True)
        with open(os.path.join(self.etc, "libvirtd.conf"), "w", encoding="utf-8") as file:
            file.write('auth_unix_ro = "none"\nauth_unix_rw = "none"\nunix_sock_rw_perms = "0700"\nlog_filters = ""\n')
        with open(os.path.join(self.etc, "qemu.conf"), "w", encoding="utf-8") as file:
            file.write('user = "root"\ngroup = "root"\ndynamic_ownership = 0\nremember_owner = 0\nsecurity_driver = "none"\n'
                       'cgroup_controllers = []\nnamespaces = []\nstdio_handler = "file"\n')
        # The folder of the settings is laid over /etc/libvirt as the last mount, so that the machine's own is not read.
        command = ["unshare", *self.namespaces, "--fork", "--kill-child=KILL", "--mount-proc", "--propagation", "private",
                   "sh", "-c", "mount --bind '%s' /etc/libvirt && exec python3 -c \"$0\" '%s'" % (self.etc, self.base), FIRST]
        self.keeper = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=die_with_parent)
        if self.keeper.stdout.readline().strip() != "ready":
            words = self.keeper.communicate()[1].strip()
            raise AssertionError("the namespaces: " + words)
        self.first = self.children(self.keeper.pid)[0]
        self.start_daemon()
        return self

    @staticmethod
    def children(pid):
        with open("/proc/%d/task/%d/children" % (pid, pid), encoding="ascii") as file:
            return [int(word) for word in file.read().split()]

    def inside(self, *argv):
        return ["nsenter", "--target", str(self.first), *self.namespaces, "--", *argv]

    def start_daemon(self):
        log = open(os.path.join(self.folder, "libvirtd.log"), "a", encoding="utf-8")
        with log:
            self.daemon = subprocess.Popen(self.inside("libvirtd", "--config", "/etc/libvirt/libvirtd.conf"), stdout=log, stderr=log,
                                           preexec_fn=die_with_parent)
        until(self.answers, 60, lambda: "libvirtd answers: " + open(log.name, encoding="utf-8").read()[-2000:])

    def answers(self):
        if self.daemon.poll() is not None:
            with open(os.path.join(self.folder, "libvirtd.log"), encoding="utf-8") as log:
                raise AssertionError("libvirtd ended: " + log.read()[-2000:])
        return subprocess.run(["virsh", "-c", self.uri, "version"], capture_output=True, check=False).returncode == 0

    def daemon_pid(self):
        """libvirtd's own, as this process sees it."""
        return self.children(self.daemon.pid)[0]

    def kill_daemon(self):
        """kill -9 of libvirtd; its guests live on."""
        os.kill(self.daemon_pid(), signal.SIGKILL)
        self.daemon.wait()

    def notes(self):
        """What libvirtd wrote down of domains that it starts or that run: files."""
        return glob.glob(os.path.join(self.base, "run/libvirt/qemu/*.xml"))

    def forget_starts(self):
        """As docs/KVM.md says: a libvirtd that was killed while it started a domain does not let go of it otherwise."""
        self.kill_daemon()
        for name in self.notes():
            with open(name, encoding="utf-8") as file:
                text = file.read()
            if "reason='starting up' pid='0'" in text:
                os.unlink(name)
        self.start_daemon()

    def pause_daemon(self):
        """libvirtd hangs until resume_daemon()."""
        os.kill(self.daemon_pid(), signal.SIGSTOP)

    def resume_daemon(self):
        os.kill(self.daemon_pid(), signal.SIGCONT)
        os.kill(self.daemon.pid, signal.SIGCONT)  # nsenter stops with its child

    def processes(self):
        """How many live in its namespaces."""
        return len(tool("nsenter", "--target", str(self.first), "--pid", "--mount", "--", "ls", "/proc", check=False).split())

    def __exit__(self, *unused):
        if self.keeper is not None:
            self.keeper.kill()  # unshare takes the first process with it, and that everything else
            self.keeper.communicate()
            if self.daemon is not None:
                self.daemon.kill()
                self.daemon.wait()
            self.keeper = None

    # ---- its words ----

    def network(self, name):
        """A network of its guests, in which the host has no address."""
        path = os.path.join(self.folder, "network-%s.xml" % name)
        with open(path, "w", encoding="utf-8") as file:
            file.write("<network><name>%s</name><bridge stp='off' delay='0'/></network>" % name)
        self.virsh("net-define", path)
        self.virsh("net-start", name)

    def virsh(self, *argv, check=True, timeout=120):
        return tool("virsh", "-q", "-c", self.uri, *argv, check=check, timeout=timeout).strip()

    def domains(self):
        return self.virsh("list", "--all", "--name").split()

    def checkpoints(self, name):
        return self.virsh("checkpoint-list", name, "--name").split()


# ---- guests ----

def module_files(folder):
    """What MODULES need, in the order in which it is loaded."""
    files = []
    with open(os.path.join(folder, "modules.dep"), encoding="ascii") as lines:
        needs = dict(line.strip().split(":", 1) for line in lines)
    for wanted in MODULES:
        for path, others in needs.items():
            if re.match(wanted + r"\.ko(\.xz)?$", os.path.basename(path).replace("-", "_")):
                files += [name for name in [*reversed(others.split()), path] if name not in files]
    return [os.path.join(folder, name) for name in files]


def initramfs(folder):
    """The initramfs of all guests: guest_init.c and the modules of its disks, made once a folder."""
    made = os.path.join(folder, "guest.initrd")
    if os.path.exists(made):
        return made
    root = os.path.join(folder, "initrd.root")
    for name in ("dev", "proc", "sys", "disks", "modules", "run", "sbin"):
        os.makedirs(os.path.join(root, name), exist_ok=True)
    release = os.path.basename(kernels()[-1])[len("vmlinuz-"):]
    with open(os.path.join(root, "modules/order"), "w", encoding="ascii") as order:
        for path in module_files("/lib/modules/" + release):
            name = re.sub(r"\.xz$", "", os.path.basename(path))
            with (lzma.open if path.endswith(".xz") else open)(path, "rb") as module:
                with open(os.path.join(root, "modules", name), "wb") as copy:
                    copy.write(module.read())
            order.write(name + "\n")
    agent = shutil.which("qemu-ga")
    for path in [agent, *re.findall(r"(/\S+) \(0x", tool("ldd", agent))] if agent else []:
        place = root + ("/bin/qemu-ga" if path == agent else os.path.realpath(os.path.dirname(path)) + "/" + os.path.basename(path))
        os.makedirs(os.path.dirname(place), exist_ok=True)
        shutil.copyfile(path, place)
        os.chmod(place, 0o755)
    for name in ("lib", "lib64"):  # as on this machine, where they are names for what is below /usr
        if agent and os.path.islink("/" + name):
            os.symlink(os.readlink("/" + name), os.path.join(root, name))
    tool("cc", "-static", "-O1", "-o", os.path.join(root, "init"), os.path.join(SOURCE, "tests/lib/guest_init.c"))
    os.link(os.path.join(root, "init"), os.path.join(root, "sbin/shutdown"))
    tool("sh", "-c", "find . | cpio -o -H newc --quiet > '%s.new'" % made, cwd=root)
    os.rename(made + ".new", made)
    return made


class Guest:
    """A domain with one or more disks, each an ext4 that guest_init.c writes records to; agent: with QEMU's guest agent in it."""

    def __init__(self, libvirt, name, disk_mib=(64,), disk_format="qcow2", memory_mib=128, agent=False, nic=False, options=""):
        self.options = options  # behind the kernel's own
        self.agent = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>" if agent else ""
        self.nic = ""  # nic: True for one that leads nowhere in particular, or a network's name
        if nic:
            self.nic = ("<interface type='user'><model type='virtio'/></interface>" if nic is True else
                        "<interface type='network'><source network='%s'/><model type='virtio'/></interface>" % nic)
        self.libvirt, self.name, self.memory_mib, self.disk_format = libvirt, name, memory_mib, disk_format
        self.folder = os.path.join(libvirt.folder, "guests", name)
        os.makedirs(self.folder, exist_ok=True)
        self.console = os.path.join(self.folder, "console")
        self.disks = {}
        for index, mib in enumerate(disk_mib):
            self.disks["vd" + "abcdefgh"[index]] = self.make_disk("disk%d" % index, mib)
        self.uuid = None
        self.define()

    def make_disk(self, name, mib):
        raw, path = os.path.join(self.folder, name + ".raw"), os.path.join(self.folder, name + "." + self.disk_format)
        with open(raw, "wb") as file:
            file.truncate(mib << 20)
        tool("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", raw)
        if path != raw:
            tool("qemu-img", "convert", "-O", self.disk_format, raw, path)
            os.unlink(raw)
        return path

    def xml(self):
        disks = "".join("<disk type='file' device='disk'><driver name='qemu' type='%s' cache='none' io='threads' discard='unmap'/>"
                        "<source file='%s'/><target dev='%s' bus='virtio'/></disk>" % (self.disk_format, path, target)
                        for target, path in self.disks.items())
        uuid = "<uuid>%s</uuid>" % self.uuid if self.uuid else ""
        return ("<domain type='qemu'><name>%s</name>%s<memory unit='MiB'>%d</memory><vcpu>1</vcpu>"
                "<os><type arch='x86_64' machine='pc'>hvm</type><kernel>%s</kernel><initrd>%s</initrd>"
                "<cmdline>console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable no_timer_check %s</cmdline></os><features><acpi/></features>"
                "<on_reboot>destroy</on_reboot><on_crash>destroy</on_crash><devices>"
                "<emulator>/usr/bin/qemu-system-x86_64</emulator>%s"
                "<serial type='file'><source path='%s' append='on'/></serial><memballoon model='none'/>%s"
                "</devices></domain>" % (self.name, uuid, self.memory_mib, kernels()[-1], initramfs(self.libvirt.folder), self.options, disks,
                                         self.console, self.agent + self.nic))

    def define(self):
        path = os.path.join(self.folder, "domain.xml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.xml())
        self.libvirt.virsh("define", path)
        self.uuid = self.libvirt.virsh("domuuid", self.name)

    def start(self, wait=True):
        first = self.acked()
        self.libvirt.virsh("start", self.name)
        if wait:
            self.wait_ack(first + 1)

    def destroy(self):
        self.libvirt.virsh("destroy", self.name)

    def pid(self):
        """QEMU's, as this process sees it."""
        for path in glob.glob("/proc/[0-9]*/cmdline"):
            try:
                with open(path, "rb") as file:
                    words = file.read()
            except OSError:
                continue
            if b"guest=%s," % self.name.encode() in words and self.folder.encode() in words:
                return int(path.split("/")[2])
        return None

    def crash(self):
        """kill -9 of QEMU: what bitmaps it had in memory is lost."""
        os.kill(self.pid(), signal.SIGKILL)
        until(lambda: self.libvirt.virsh("domstate", self.name) == "shut off", 30, "the guest is gone")

    def words(self):
        try:
            with open(self.console, encoding="utf-8", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def acked(self):
        """The last record that all its disks have, as it said on its console; 0: none yet."""
        found = re.findall(r"^ACK (\d+)\r?$", self.words(), re.M)
        return int(found[-1]) if found else 0

    def wait_ack(self, number, seconds=120):
        until(lambda: self.acked() >= number, seconds, lambda: "the guest acknowledges %d: %s" % (number, self.words()[-1500:]))
        return self.acked()
