# The first process of the machine, until it is systemd: sh inside.sh SCRATCH CHECKOUT ENVIRONMENT DATA UNITS
# The host's own files lie below as they are, and all that is written goes to memory, but for DATA, which is /srv.
# Everything that systemd would do to a host's kernel (settings, modules, devices, the clock, audit) is left out or read-only.
set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
scratch=$1 checkout=$2 environment=$3 data=$4 units=$5

seen() { # something of the host, to be read only
    mount --bind "$1" "$2"
    mount -o remount,bind,ro "$2"
}
empty() { mkdir -p "$2"; mount -t tmpfs -o "mode=$1,nosuid" tmpfs "$2"; }

empty 755 "$scratch"
mkdir "$scratch/upper" "$scratch/work" "$scratch/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/work" "$scratch/root"
cd "$scratch/root"

mount -t proc -o nosuid,nodev,noexec proc proc
seen proc/sys proc/sys
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 sys/fs/cgroup
empty 755 dev
for node in null zero full random urandom tty; do
    : > "dev/$node"
    mount --bind "/dev/$node" "dev/$node"
done
mkdir dev/pts
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for folder in dev/shm tmp var/tmp; do empty 1777 "$folder"; done
for folder in run var/log var/lib/systemd etc/systemd/system opt srv; do empty 755 "$folder"; done

# of what a start brings up, the journal and its folders
for wants in sysinit multi-user sockets timers; do
    for unit in lib/systemd/system/$wants.target.wants/*; do
        [ -L "$unit" ] || continue
        case ${unit##*/} in
            systemd-journald-audit.socket) ln -sf /dev/null etc/systemd/system/ ;;
            systemd-journald* | systemd-tmpfiles-setup.service) ;;
            *) ln -sf /dev/null "etc/systemd/system/${unit##*/}" ;;
        esac
    done
done
cp -r "$units/." etc/systemd/system
: > etc/fstab
echo night > etc/hostname
hostname night
# the same each time that it starts
echo 6e696768746e696768746e696768746e > etc/machine-id
echo 'p2v:x:61999:61999::/var/lib/p2v:/usr/sbin/nologin' >> etc/passwd
echo 'p2v:x:61999:' >> etc/group
echo 'p2v:!:20000::::::' >> etc/shadow
install -d -o 61999 -g 61999 -m 700 var/lib/p2v

for package in p2v converters drivers; do
    mkdir -p "opt/p2v-suite/$package"
    seen "$checkout/$package" "opt/p2v-suite/$package"
done
mkdir opt/p2v-suite/.venv
seen "$environment" opt/p2v-suite/.venv
# the environment's own p2v names the place that it was installed in
cat > opt/p2v << 'END'
#!/bin/sh
PYTHONPATH=/opt/p2v-suite exec /opt/p2v-suite/.venv/bin/python -m p2v "$@"
END
chmod 755 opt/p2v
seen opt/p2v opt/p2v-suite/.venv/bin/p2v
mount --bind "$data" srv

pivot_root . mnt
cd /
umount -l /mnt
exec env -i container=p2v-night PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin \
    setpriv --bounding-set -sys_time,-sys_module,-sys_rawio,-syslog,-mknod --inh-caps -all \
    /lib/systemd/systemd --system --unit=multi-user.target --log-target=journal --show-status=no
