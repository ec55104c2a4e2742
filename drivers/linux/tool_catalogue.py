"""Software that belongs to a hypervisor, a cloud or a physical machine: data, by which ``tools`` recognises it.

What is left alone on purpose: cloud-init, irqbalance, kdump, mdadm, rasdaemon and smartd, which run on KVM as well, and
the vendors' package sources.

Names of packages, files and units are of the distributions' packages where they have one. Those of vendors who publish none were
checked, in November 2026, against what a comment beside the entry says; without one they are as people report them, and unchecked.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Known:
    """How a tool is recognised, and what it runs.

    ``packages``: by which a tool is recognised, Debian's first; ``other_packages``: those of further distributions, or
    further ones that it may come in.
    ``files``: that only it has. ``units``: systemd's; ``services``: those of SysV init, Upstart, OpenRC and runit, which
    systemd knows as units too. ``only_if``: a file of assignments, a variable, and the values with which (``""``: not set)
    the tool needs no hardware of the machine, and stays.
    """

    name: str
    vendor: str
    packages: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    only_if: tuple[str, str, tuple[str, ...]] | None = None
    other_packages: tuple[str, ...] = ()


AGENT = "qemu-guest-agent"

_HYPERVISORS: tuple[Known, ...] = (
    Known(
        "open-vm-tools", "vmware",
        ("open-vm-tools", "open-vm-tools-desktop"), ("/usr/bin/vmtoolsd",),
        ("open-vm-tools.service", "vmtoolsd.service", "vgauth.service", "vgauthd.service", "run-vmblock-fuse.mount",
         "run-vmblock\\x2dfuse.mount", "vmware-vmblock-fuse.service"),
        ("open-vm-tools", "vmtoolsd", "vgauthd"),
        other_packages=("open-vm-tools-sdmp", "open-vm-tools-salt-minion", "open-vm-tools-guestinfo"),
    ),
    Known(
        "vmware-tools", "vmware",
        ("VMwareTools", "vmware-tools-esx", "vmware-tools-esx-nox", "vmware-tools-foundation", "vmware-tools-core",
         "vmware-tools-services"),
        ("/etc/vmware-tools/locations", "/usr/bin/vmware-uninstall-tools.pl", "/usr/sbin/vmware-guestd"),
        ("vmware-tools.service", "vmware-tools-thinprint.service"),
        ("vmware-tools", "vmware-tools-services", "vmware-tools-thinprint"),
        other_packages=("vmware-tools-guestlib", "vmware-tools-libraries-nox", "vmware-tools-libraries-x",
                        "vmware-tools-plugins-guestInfo", "vmware-tools-plugins-timeSync", "vmware-tools-plugins-vmbackup",
                        "vmware-tools-plugins-powerOps", "vmware-tools-plugins-deployPkg", "vmware-tools-vgauth",
                        "kmod-vmware-tools-vmci", "kmod-vmware-tools-vmxnet3"),
    ),
    Known(
        "virtualbox-guest-additions", "virtualbox",
        ("virtualbox-guest-utils", "virtualbox-guest-x11", "virtualbox-ose-guest-utils"),
        ("/var/lib/VBoxGuestAdditions/config", "/usr/sbin/VBoxService", "/usr/bin/VBoxService"),
        ("virtualbox-guest-utils.service", "vboxadd.service", "vboxadd-service.service", "vboxadd-x11.service",
         "vboxservice.service", "vboxdrmclient.service"),
        ("vboxadd", "vboxadd-service", "vboxadd-x11", "vboxadd-timesync", "virtualbox-guest-utils",
         "virtualbox-ose-guest-utils", "virtualbox-guest-additions", "vboxservice"),
        other_packages=("virtualbox-guest-additions", "virtualbox-guest-tools", "virtualbox-guest-dkms",
                        "virtualbox-guest-utils-nox", "virtualbox-kmp-default", "virtualbox-ose-guest"),
    ),
    Known(
        "hyperv-daemons", "hyperv",
        ("hyperv-daemons", "linux-cloud-tools-common"),
        ("/usr/sbin/hv_kvp_daemon", "/usr/sbin/hypervkvpd", "/usr/lib/hyper-v/bin/hv_kvp_daemon"),
        ("hyperv-daemons.hv-kvp-daemon.service", "hyperv-daemons.hv-vss-daemon.service",
         "hyperv-daemons.hv-fcopy-daemon.service", "hv-kvp-daemon.service", "hv-vss-daemon.service",
         "hv-fcopy-daemon.service", "hv-fcopy-uio-daemon.service", "hypervkvpd.service", "hypervvssd.service",
         "hypervfcopyd.service", "hv_kvp_daemon.service", "hv_vss_daemon.service", "hv_fcopy_daemon.service"),
        ("hv-kvp-daemon", "hv-vss-daemon", "hv-fcopy-daemon", "hypervkvpd", "hypervvssd", "hypervfcopyd",
         "hv_kvp_daemon", "hv_vss_daemon", "hv_fcopy_daemon"),
        other_packages=("hypervkvpd", "hypervvssd", "hypervfcopyd", "hyperv-tools", "hyper-v", "hvtools", "hyperv"),
    ),
    Known(
        "xe-guest-utilities", "xen",
        ("xe-guest-utilities",), ("/usr/sbin/xe-daemon", "/usr/sbin/xe-linux-distribution"),
        ("xe-daemon.service", "xe-linux-distribution.service"), ("xe-daemon", "xe-linux-distribution", "xe-guest-utilities"),
        other_packages=("xe-guest-utilities-latest", "xe-guest-utilities-xenstore"),
    ),
    Known("xen-guest-agent", "xen", ("xen-guest-agent",), ("/usr/sbin/xen-guest-agent",), ("xen-guest-agent.service",)),
    # units: the installer's own list of files (installer/prltoolsd.service, prl-x11.service), as Gentoo users packaged it
    Known(
        "parallels-tools", "parallels", (), ("/usr/lib/parallels-tools/install", "/usr/bin/prltoolsd"),
        ("prltoolsd.service", "prl-x11.service", "prl-xorg-cleanup.service"), ("prltoolsd", "prl-x11"),
    ),
    # installs below /usr/local/nutanix and as /etc/init.d/ngt_guest_agent: its own installer script;
    # "service ngt_guest_agent restart": Nutanix' documentation of its certificates
    Known(
        "nutanix-guest-tools", "nutanix", ("nutanix-guest-agent",), ("/usr/local/nutanix/ngt",),
        ("ngt_guest_agent.service", "ngt_self_service_restore.service", "nutanix-guest-agent.service"),
        ("ngt_guest_agent", "ngt_self_service_restore"),
    ),
)  # fmt: skip

_CLOUDS: tuple[Known, ...] = (
    Known(
        "azure-agent", "azure", ("walinuxagent", "waagent"), ("/usr/sbin/waagent", "/usr/bin/waagent"),
        ("walinuxagent.service", "waagent.service", "waagent-network-setup.service", "walinuxagent-network-setup.service",
         "waagent-apt.service"),
        ("walinuxagent", "waagent"),
        # Red Hat's and SUSE's: Microsoft's documentation of updating and removing the agent
        other_packages=("WALinuxAgent", "WALinuxAgent-udev", "python-azure-agent"),
    ),
    Known(
        "google-guest-agent", "google", ("google-guest-agent", "google-compute-engine", "google-osconfig-agent"),
        ("/usr/bin/google_guest_agent", "/usr/bin/google_metadata_script_runner", "/usr/bin/google_osconfig_agent",
         "/usr/bin/google_instance_setup"),
        ("google-guest-agent.service", "google-guest-agent-manager.service", "google-guest-compat-manager.service",
         "google-startup-scripts.service", "google-shutdown-scripts.service", "google-osconfig-agent.service",
         "google-accounts-daemon.service", "google-clock-skew-daemon.service", "google-network-daemon.service",
         "google-instance-setup.service", "google-oslogin-cache.timer", "gce-workload-cert-refresh.timer"),
        ("google", "google-startup-scripts", "google-accounts-daemon", "google-clock-skew-daemon",
         "google-instance-setup", "google-network-daemon"),
    ),
    Known(
        "amazon-ssm-agent", "amazon", ("amazon-ssm-agent",),
        ("/usr/bin/amazon-ssm-agent", "/snap/amazon-ssm-agent/current"),
        ("amazon-ssm-agent.service", "snap.amazon-ssm-agent.amazon-ssm-agent.service"), ("amazon-ssm-agent",),
    ),
    Known("hibinit-agent", "amazon", ("ec2-hibinit-agent",), ("/usr/bin/hibinit-agent",), ("hibinit-agent.service",)),
    # a snap on Ubuntu, an rpm on Oracle Linux, both units on either: Oracle's own how-tos ("systemctl status ...")
    Known(
        "oracle-cloud-agent", "oracle", ("oracle-cloud-agent",),
        ("/snap/oracle-cloud-agent/current", "/usr/libexec/oracle-cloud-agent"),
        ("oracle-cloud-agent.service", "oracle-cloud-agent-updater.service", "snap.oracle-cloud-agent.oracle-cloud-agent.service",
         "snap.oracle-cloud-agent.oracle-cloud-agent-updater.service"),
    ),
    Known("aliyun-assist", "alibaba", ("aliyun_assist",), ("/usr/sbin/aliyun-service",), ("aliyun.service",), ("aliyun-service",)),
)  # fmt: skip

_MACHINES: tuple[Known, ...] = (
    # hp-health, hp-snmp-agents (/opt/hp/hp-snmp-agents/server/bin): "Managing ProLiant servers with Linux HOWTO"; amsd's units,
    # with their sysconfig files: its package as container and NixOS users list it
    Known(
        "hp-management", "hpe", ("hp-health", "hp-snmp-agents", "hp-ams", "amsd"),
        ("/opt/hp/hp-health", "/opt/hp/hp-snmp-agents", "/sbin/amsd", "/sbin/amsHelper", "/usr/sbin/amsd"),
        ("hp-health.service", "hp-asrd.service", "hp-snmp-agents.service", "hp-ams.service", "hpsmhd.service", "amsd.service",
         "smad.service", "smad_rev.service", "ahslog.service", "cpqIde.service", "cpqFca.service", "cpqScsi.service",
         "cpqiScsi.service", "mr_cpqScsi.service"),
        ("hp-health", "hp-asrd", "hp-snmp-agents", "hp-ams", "hpasm", "hpsmhd", "amsd", "smad"),
        other_packages=("hpsmh", "hpasm", "hp-OpenIPMI"),
    ),
    # dsm_*: Dell's packages as Debian and Puppet users enable them; dcismeng: the service module's own installer script
    Known(
        "dell-openmanage", "dell", ("srvadmin-base", "srvadmin-omacore", "dcism"),
        ("/opt/dell/srvadmin/sbin/dsm_sa_datamgrd", "/opt/dell/srvadmin/iSM", "/opt/dell/srvadmin/sbin/dcismeng"),
        ("dataeng.service", "dsm_sa_datamgrd.service", "dsm_sa_eventmgrd.service", "dsm_sa_snmpd.service",
         "dsm_om_connsvc.service", "dsm_om_shrsvc.service", "instsvcdrv.service", "dcismeng.service"),
        ("dataeng", "dsm_om_connsvc", "dsm_om_shrsvc", "instsvcdrv", "dcismeng"),
        other_packages=("srvadmin-all", "srvadmin-omcommon", "srvadmin-isvc", "srvadmin-storageservices", "dcism-osc"),
    ),
    Known("ibm-rsa", "ibm", (), ("/sbin/ibmasm", "/usr/sbin/ibmspup"), (), ("ibmasm", "ibmusbasm")),
    Known("superdoctor", "supermicro", (), ("/opt/Supermicro/SuperDoctor5",), ("sd5.service",), ("sd5",)),
    # LSI Storage Authority: /etc/init.d/LsiSASH in its read-me file; its packages and units as administrators list them
    Known(
        "megaraid-manager", "broadcom", ("lsistorageauthority", "LSIStorageAuthority", "MegaRAID_Storage_Manager"),
        ("/usr/local/MegaRAID Storage Manager", "/opt/lsi/LSIStorageAuthority", "/usr/sbin/mrmonitor"),
        ("vivaldiframeworkd.service", "LsiSASH.service", "LSISA.service", "mrmonitor.service"),
        ("vivaldiframeworkd", "LsiSASH", "mrmonitor"),
    ),
    Known(
        "adaptec-manager", "adaptec", (), ("/usr/StorMan", "/usr/Adaptec_Event_Monitor"),
        ("stor_agent.service", "stor_tomcat.service"), ("stor_agent", "stor_tomcat", "stor_cimserver"),
    ),
    Known("3dm2", "3ware", (), ("/opt/3ware/3DM2", "/usr/sbin/3dm2"), (), ("tdm2", "3dm2")),
    Known(
        "raid-monitors", "physical",
        ("mpt-status", "megaraid-status", "megaraid-sas-status", "aacraid-status", "cciss-vol-status", "3ware-status"),
        ("/usr/sbin/mpt-status", "/usr/sbin/megaclisas-status", "/usr/bin/cciss_vol_status"),
        ("mpt-statusd.service", "megaraid-statusd.service", "megaraidsas-statusd.service", "megaclisas-statusd.service",
         "aacraid-statusd.service", "cciss-vol-statusd.service"),
        ("mpt-statusd", "megaraid-statusd", "megaraidsas-statusd", "megaclisas-statusd", "aacraid-statusd", "cciss-vol-statusd"),
    ),
    Known(
        "ipmi", "physical", ("openipmi", "ipmitool", "freeipmi-bmc-watchdog", "freeipmi-ipmidetect", "freeipmi-ipmiseld"),
        ("/usr/libexec/openipmi-helper", "/usr/sbin/ipmievd", "/usr/sbin/bmc-watchdog", "/usr/share/openipmi"),
        ("openipmi.service", "ipmi.service", "ipmievd.service", "bmc-watchdog.service", "ipmidetectd.service",
         "ipmiseld.service", "bmc-snmp-proxy.service"),
        ("openipmi", "ipmi", "ipmievd", "bmc-watchdog", "ipmidetectd", "ipmiseld"),
        other_packages=("OpenIPMI",),
    ),
    Known(
        "sensors", "physical", ("lm-sensors", "fancontrol", "thermald", "sensord", "i8kutils", "thinkfan"),
        ("/usr/sbin/fancontrol", "/usr/sbin/thermald", "/usr/bin/thermald", "/usr/bin/sensors"),
        ("lm-sensors.service", "lm_sensors.service", "fancontrol.service", "thermald.service", "sensord.service",
         "i8kmon.service", "thinkfan.service"),
        ("lm-sensors", "lm_sensors", "fancontrol", "thermald", "sensord", "thinkfan"),
        other_packages=("lm_sensors", "lm_sensors-sensord"),
    ),
    Known(
        "mcelog", "physical", ("mcelog",), ("/usr/sbin/mcelog",), ("mcelog.service",), ("mcelog", "mcelogd"),
    ),
    Known(
        "microcode", "physical", ("microcode.ctl",), ("/sbin/microcode_ctl", "/usr/sbin/microcode_ctl"),
        ("microcode.service",), ("microcode_ctl", "microcode.ctl"),
    ),
    Known(
        "watchdog", "physical", ("watchdog",), ("/usr/sbin/watchdog",),
        ("watchdog.service", "wd_keepalive.service"), ("watchdog", "wd_keepalive"),
        ("/etc/default/watchdog", "watchdog_module", ("", "none", "softdog", "i6300esb")),
    ),
)  # fmt: skip

KNOWN: tuple[Known, ...] = (
    *_HYPERVISORS,
    *_CLOUDS,
    *_MACHINES,
    Known(
        AGENT, "qemu", (AGENT,), ("/usr/sbin/qemu-ga", "/usr/bin/qemu-ga"),
        ("qemu-guest-agent.service", "qemu-ga.service"), ("qemu-guest-agent", "qemu-ga"), other_packages=("qemu-ga",),
    ),
)  # fmt: skip
"""Every tool, in the order in which they are listed and turned off."""

KEPT_VENDORS = frozenset({"qemu"})
"""What belongs on KVM."""
