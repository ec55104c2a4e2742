"""Programs that tie a machine to other machines or to its hardware, as data: clusters, storage, directories, licences, databases.

Names of packages are those of the distributions (Debian's, Red Hat's, SUSE's) where they have one. Names of vendors' packages,
paths and services are as their manuals and administrators' lists of services have them in November 2026: Microsoft, "Services
Registry Tree" and the roles' own pages (DHCPServer, CertSvc, TermServLicensing, vmms); SIOS (ExtMirrSvc); Thales, "Sentinel LDK
Run-time Environment" (hasplms, aksusbd); Wibu-Systems (CodeMeter.exe); Flexera ("FLEXnet Licensing Service"); Oracle, "Grid
Infrastructure" (olr.loc, ohasd, oratab).
What a plan says already is not here: Windows' failover clusters and domain controllers, hypervisors' and makers' own tools.
"""

from __future__ import annotations

from drivers.agent_catalogue import AGENTS
from drivers.programs import Program, ProgramKind

_K = ProgramKind

_CLUSTERS: tuple[Program, ...] = (
    Program("Pacemaker", _K.CLUSTER, ("pacemaker",), ("/var/lib/pacemaker/cib/cib.xml",)),
    Program("Corosync", _K.CLUSTER, ("corosync", "openais"), ("/etc/corosync/corosync.conf",)),
    Program("Red Hat Cluster Suite", _K.CLUSTER, ("rgmanager", "cman"), ("/etc/cluster/cluster.conf",)),
    Program("Heartbeat", _K.CLUSTER, ("heartbeat",), ("/etc/ha.d/ha.cf",)),
    Program("Oracle Grid Infrastructure", _K.CLUSTER, (), ("/etc/oracle/olr.loc", "/etc/oracle/ocr.loc", "/etc/init.d/ohasd"),
            ("OracleOHService", "OracleCRService")),
    Program("Veritas Cluster Server", _K.CLUSTER, ("VRTSvcs",), ("/etc/VRTSvcs/conf/config/main.cf",), ("HADHelper",)),
    Program("SIOS LifeKeeper", _K.CLUSTER, ("steeleye-lk",), ("/opt/LifeKeeper",), ("LifeKeeper",)),
    Program("HPE Serviceguard", _K.CLUSTER, ("serviceguard",), ("/usr/local/cmcluster", "/opt/cmcluster")),
    Program("keepalived", _K.FLOATING_ADDRESS, ("keepalived",)),
    Program("ucarp", _K.FLOATING_ADDRESS, ("ucarp", "vrrpd")),
)  # fmt: skip

_STORAGE: tuple[Program, ...] = (
    Program("DRBD", _K.SHARED_STORAGE, ("drbd-utils", "drbd[89]*-utils", "drbd"), ("/etc/drbd.d/*.res",)),
    Program("GFS2", _K.SHARED_STORAGE, ("gfs2-utils", "gfs-utils", "gfs2-tools")),
    Program("OCFS2", _K.SHARED_STORAGE, ("ocfs2-tools",), ("/etc/ocfs2/cluster.conf",)),
    Program("Oracle ASM", _K.SHARED_STORAGE, ("oracleasm-support", "oracleasmlib"), ("/etc/sysconfig/oracleasm",),
        ("OracleASMService+*",)),
    Program("Veritas Volume Manager", _K.SHARED_STORAGE, ("VRTSvxvm",), ("/etc/vx/volboot",), ("vxsvc",)),
    Program("IBM Spectrum Scale", _K.SHARED_STORAGE, ("gpfs.base",), ("/var/mmfs/gen/mmsdrfs",)),
    Program("GlusterFS", _K.SHARED_STORAGE, ("glusterfs-server",), ("/var/lib/glusterd/glusterd.info",)),
    Program("Ceph", _K.SHARED_STORAGE, ("ceph-osd", "ceph-mon"), ("/var/lib/ceph/osd/*",)),
    Program("SIOS DataKeeper", _K.SHARED_STORAGE, services=("ExtMirrSvc",)),
    Program("StarWind", _K.SHARED_STORAGE, services=("StarWindService",)),
    Program("device-mapper multipath", _K.MULTIPATH, ("multipath-tools", "device-mapper-multipath")),
    Program("PowerPath", _K.MULTIPATH, ("EMCpower.LINUX", "DellEMCPower.LINUX"), ("/etc/emcp_registration",)),
    Program("Hitachi Dynamic Link Manager", _K.MULTIPATH, ("HDLM",), ("/opt/DynamicLinkManager",), ("DLMManager",)),
)  # fmt: skip

_ROLES: tuple[Program, ...] = (
    Program("a Samba domain controller", _K.DIRECTORY, (),
            ("/var/lib/samba/private/sam.ldb", "/var/lib/samba/sam.ldb", "/usr/local/samba/private/sam.ldb")),
    Program("FreeIPA", _K.DIRECTORY, ("ipa-server", "freeipa-server"), ("/etc/ipa/ca.crt.ipaserver",)),
    Program("389 Directory Server", _K.DIRECTORY, ("389-ds-base", "redhat-ds-base"), ("/etc/dirsrv/slapd-*",)),
    Program("OpenLDAP", _K.DIRECTORY, ("slapd", "openldap-servers", "openldap2")),
    Program("eDirectory", _K.DIRECTORY, (), ("/opt/novell/eDirectory",), ("NDS Server0",)),
    Program("AD LDS", _K.DIRECTORY, services=("ADAM_*",)),
    Program("a Kerberos key distribution centre", _K.DIRECTORY, ("krb5-kdc", "krb5-server")),
    Program("BIND", _K.NAME_SERVER, ("bind9", "bind", "bind-chroot")),
    Program("Unbound", _K.NAME_SERVER, ("unbound",)),
    Program("PowerDNS", _K.NAME_SERVER, ("pdns", "pdns-server", "pdns-recursor")),
    Program("dnsmasq", _K.NAME_SERVER, ("dnsmasq",)),
    Program("Windows' DNS server", _K.NAME_SERVER, services=("DNS",)),
    Program("WINS", _K.NAME_SERVER, services=("WINS",)),
    Program("ISC DHCP", _K.ADDRESS_SERVER, ("isc-dhcp-server", "dhcp-server", "dhcp3-server")),
    Program("Kea", _K.ADDRESS_SERVER, ("kea", "kea-dhcp4-server", "kea-dhcp4")),
    Program("Windows' DHCP server", _K.ADDRESS_SERVER, services=("DHCPServer",)),
    Program("Windows' certificate services", _K.CERTIFICATE_AUTHORITY, services=("CertSvc",)),
    Program("Dogtag", _K.CERTIFICATE_AUTHORITY, ("pki-ca", "dogtag-pki-ca", "dogtag-pki")),
)  # fmt: skip

_LICENCES: tuple[Program, ...] = (
    Program("remote desktop licensing", _K.LICENCE_SERVER, services=("TermServLicensing",)),
    Program("Citrix licensing", _K.LICENCE_SERVER, services=("Citrix Licensing", "CitrixLicensing")),
    Program("a FlexNet licence server", _K.LICENCE_SERVER, (),
            ("/usr/local/flexlm", "/opt/flexlm", "/etc/init.d/*lmgrd*", "/etc/init.d/*flexlm*", "/etc/systemd/system/*lmgrd*",
             "/etc/systemd/system/*flexlm*"),
            ("*flexlm*", "*lmgrd*")),
    Program("Reprise licence manager", _K.LICENCE_SERVER, (), ("/etc/systemd/system/rlm.service", "/etc/init.d/rlm"), ("rlm",)),
    Program("Sentinel RMS", _K.LICENCE_SERVER, services=("Sentinel RMS License Manager",),
        listed=("Sentinel RMS License Manager*",)),
    Program("FlexNet's trusted storage", _K.LICENCE_BOUND, drivers=("FLEXnet Licensing Service*", "FlexNet Licensing Service*")),
    Program("SAP", _K.LICENCE_BOUND, (), ("/usr/sap/sapservices",), ("SAPHostControl", "SAP[A-Z]*_[0-9][0-9]")),
    Program("Sentinel (HASP)", _K.DONGLE, ("aksusbd",), ("/usr/sbin/aksusbd*", "/usr/sbin/hasplmd*"),
            ("hasplms", "SentinelProtectionServer", "SentinelKeysServer", "HLServer"),
            ("Hardlock", "akshasp", "aksusb", "akshhl", "Haspnt", "SNTNLUSB"), ("Sentinel Protection Installer*",)),
    Program("CodeMeter", _K.DONGLE, ("codemeter", "codemeter-lite", "CodeMeter"), ("/usr/sbin/CodeMeterLin",), ("CodeMeter.exe",)),
    Program("WibuKey", _K.DONGLE, ("wibukey",), (), (), ("WIBUKEY*",), ("WibuKey*",)),
)  # fmt: skip

_DATABASES: tuple[Program, ...] = (
    Program("Oracle Database", _K.DATABASE, ("oracle-database-*",), ("/etc/oratab", "/var/opt/oracle/oratab"), ("OracleService*",)),
    Program("SQL Server", _K.DATABASE, ("mssql-server",), ("/opt/mssql/bin/sqlservr",), ("MSSQLSERVER", "MSSQL$*")),
    Program("Exchange", _K.DATABASE, services=("MSExchangeIS",)),
    Program("DB2", _K.DATABASE, (), ("/var/db2/global.reg", "/opt/ibm/db2", "/opt/IBM/db2"), ("DB2", "DB2-[0-9]*", "DB2DAS*")),
    Program("PostgreSQL", _K.DATABASE, ("postgresql-[0-9]*", "postgresql-server", "postgresql[0-9]*-server", "edb-as*-server"), (),
            ("postgresql*", "pgsql*")),
    Program("MySQL", _K.DATABASE, ("mysql-server", "mysql-server-*", "mysql-community-server", "mysql-commercial-server"),
        (), ("MySQL*",)),
    Program("MariaDB", _K.DATABASE, ("mariadb-server", "mariadb-server-*", "MariaDB-server"), (), ("MariaDB*",)),
    Program("MongoDB", _K.DATABASE, ("mongodb-org-server", "mongodb-server"), (), ("MongoDB*",)),
    Program("SAP HANA", _K.DATABASE, (), ("/hana/shared",)),
    Program("Sybase ASE", _K.DATABASE, (), ("/opt/sybase", "/opt/sap/SYBASE.sh"), ("SYBSQL_*",)),
    Program("Firebird", _K.DATABASE, ("firebird[0-9]*-server", "FirebirdSS", "FirebirdCS"), (), ("FirebirdServer*",)),
    Program("Domino", _K.DATABASE, (), ("/opt/ibm/lotus/bin/server", "/opt/ibm/domino", "/opt/hcl/domino"),
            ("Lotus Domino Server*", "IBM Domino Server*", "HCL Domino Server*")),
)  # fmt: skip

_HARDWARE: tuple[Program, ...] = (
    Program("NVIDIA's driver", _K.GRAPHICS,
            ("nvidia-driver*", "nvidia-[0-9]*", "kmod-nvidia*", "akmod-nvidia", "xorg-x11-drv-nvidia", "cuda-drivers*",
             "x11-video-nvidiaG0*", "nvidia-compute-G0*", "nvidia-video-G0*"),
            ("/usr/bin/nvidia-smi",), (), ("nvlddmkm",)),
    Program("AMD's driver", _K.GRAPHICS, ("amdgpu-dkms", "amdgpu-pro*", "rocm-core", "fglrx*"), (), (), ("amdkmdag", "atikmdag")),
    Program("tools of fibre channel cards", _K.HARDWARE, ("hbanyware", "elxocmcore", "elxocm", "QConvergeConsoleCLI", "scli"),
            ("/usr/sbin/hbanyware", "/usr/sbin/ocmanager", "/opt/QLogic_Corporation"), (), (),
            ("*OneCommand Manager*", "*SANsurfer*", "QConvergeConsole*")),
    Program("InfiniBand", _K.HARDWARE, ("opensm", "mlnx-ofa_kernel*", "mlnx-ofed*", "infiniband-diags"), (), (), (),
        ("MLNX_WinOF*", "MLNX_VPI*")),
    Program("ISDN and telephony cards", _K.HARDWARE,
            ("dahdi", "dahdi-linux*", "asterisk-dahdi", "isdnutils-base", "isdn4k-utils", "i4l-base", "capiutils", "mISDNuser")),
    Program("a fax modem", _K.HARDWARE, ("hylafax-server", "hylafax", "hylafax+", "mgetty", "mgetty-fax")),
    Program("serial consoles of other machines", _K.HARDWARE, ("conserver-server", "conserver", "ser2net")),
    Program("a supervised UPS", _K.HARDWARE, ("apcupsd", "nut-server", "nut"), (), ("apcupsd", "APC UPS Service",
        "APCPBEAgent"), (),
            ("PowerChute *", "APC PowerChute *")),
    Program("a tape library", _K.HARDWARE, ("mtx",)),
)  # fmt: skip

_PLATFORMS: tuple[Program, ...] = (
    Program("Hyper-V", _K.HYPERVISOR, services=("vmms",)),
    Program("VMware Workstation or Server", _K.HYPERVISOR, ("VMware-server", "vmware-server"), ("/usr/bin/vmplayer",
        "/usr/bin/vmware"),
            ("VMAuthdService", "VMwareHostd")),
    Program("VirtualBox", _K.HYPERVISOR, ("virtualbox", "virtualbox-[0-9]*", "VirtualBox-*"), ("/usr/bin/VBoxManage",),
            ("VBoxDrv", "VBoxSup")),
    Program("KVM", _K.HYPERVISOR, ("libvirt-daemon-system", "libvirt-bin", "qemu-kvm", "qemu-system-x86", "kvm", "vdsm",
        "pve-manager")),
    Program("Xen", _K.HYPERVISOR, ("xen-hypervisor-*", "xen-system-*", "xen", "kernel-xen")),
    Program("Docker", _K.CONTAINERS, ("docker-ce", "docker.io", "docker-engine", "docker-ee", "moby-engine", "docker"), (),
            ("docker", "com.docker.service")),
    Program("Podman", _K.CONTAINERS, ("podman",)),
    Program("Kubernetes", _K.CONTAINERS, ("kubelet", "kubeadm", "rke2-server", "rke2-agent"), ("/usr/local/bin/k3s",
        "/etc/kubernetes/kubelet.conf"),
            ("kubelet",)),
    Program("LXC", _K.CONTAINERS, ("lxd", "lxc", "incus")),
    Program("a real-time kernel", _K.REAL_TIME,
            ("kernel-rt", "kernel-rt-core", "kernel_rt", "linux-image-rt-*", "linux-image-[0-9]*-rt-*",
                "linux-image-[0-9]*-realtime",
             "linux-image-realtime")),
    Program("kdump", _K.CRASH_DUMP, (),
            ("/boot/initramfs-*kdump.img", "/boot/initrd-*kdump", "/boot/initrd-*kdump.img", "/var/lib/kdump/initrd.img-*")),
    Program("chrony", _K.TIME, ("chrony",), ("/usr/sbin/chronyd",)),
    Program("ntpd", _K.TIME, ("ntp", "ntpsec", "openntpd", "ntpd-rs", "xntp", "busybox-ntpd"),
            ("/usr/sbin/ntpd", "/usr/sbin/xntpd", "/etc/init.d/ntpd")),
    Program("systemd-timesyncd", _K.TIME, ("systemd-timesyncd",),
            ("/usr/lib/systemd/systemd-timesyncd", "/lib/systemd/systemd-timesyncd")),
)  # fmt: skip

PROGRAMS: tuple[Program, ...] = (
    *_CLUSTERS, *_STORAGE, *_ROLES, *_LICENCES, *_DATABASES, *AGENTS, *_HARDWARE, *_PLATFORMS,
)  # fmt: skip
"""Every program, in the order in which they are told of."""
