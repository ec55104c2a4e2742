"""Agents that a server somewhere knows a machine by, as data: of backups, of protection against malware, of management.

Names of packages, paths and services are as the vendors' manuals and administrators' lists of services have them in
November 2026. What comes with every Windows (its own Defender, its own backup) is not here, nor are machines' makers' agents,
which a plan turns off.
"""

from __future__ import annotations

from drivers.programs import Program, ProgramKind

_BACKUP, _ANTIVIRUS, _MANAGEMENT = ProgramKind.BACKUP, ProgramKind.ANTIVIRUS, ProgramKind.MANAGEMENT

_BACKUPS: tuple[Program, ...] = (
    Program("Veeam Agent", _BACKUP, ("veeam", "veeamsnap", "kmod-veeamsnap", "blksnap", "kmod-blksnap"), ("/etc/veeam/veeam.ini",),
            ("VeeamEndpointBackupSvc", "VeeamDeploySvc", "VeeamDeploymentService")),
    Program("Veeam Backup & Replication", _BACKUP, services=("VeeamBackupSvc",)),
    Program("Commvault", _BACKUP, (), ("/opt/commvault", "/etc/CommVaultRegistry"), ("GxCVD*", "GxFWD*")),
    Program("NetBackup", _BACKUP, ("VRTSnbclt", "VRTSnbcfg", "VRTSpbx"), ("/usr/openv/netbackup/bp.conf",), ("NetBackup*",),
            listed=("*NetBackup Client*", "*NetBackup Server*")),
    Program("Backup Exec", _BACKUP, ("VRTSralus",), ("/etc/VRTSralus",), ("BackupExecAgentAccelerator", "BackupExecRPCService")),
    Program("Tivoli Storage Manager (Spectrum Protect)", _BACKUP, ("TIVsm-BA",), ("/opt/tivoli/tsm/client/ba",),
            ("TSM Client *", "TSM Scheduler*"), (), ("IBM Tivoli Storage Manager Client*", "IBM Spectrum Protect Client*",
                                                    "IBM Storage Protect Client*")),
    Program("NetWorker", _BACKUP, ("lgtoclnt",), ("/nsr/res/nsrladb",), ("nsrexecd",)),
    Program("Avamar", _BACKUP, ("AvamarClient*", "avamarclient*"), ("/usr/local/avamar/bin/avtar",), ("avbackup",)),
    Program("Data Protector", _BACKUP, ("OB2-CORE",), ("/etc/opt/omni/client",), ("OmniInet",)),
    Program("Arcserve", _BACKUP, (), ("/opt/Arcserve", "/opt/arcserve"), ("CASAD2DWebSvc", "CASUniversalAgent")),
    Program("Acronis", _BACKUP, ("AcronisAgentLinux", "BackupAndRecoveryAgent"), ("/usr/lib/Acronis",), ("AcronisAgent",
        "AcrSch2Svc")),
    Program("Bacula", _BACKUP, ("bacula-client", "bacula-fd", "bacula-director", "bacula-sd", "bacula-enterprise-client"), (),
            ("Bacula-fd",)),
    Program("Bareos", _BACKUP, ("bareos-filedaemon", "bareos-director", "bareos-storage"), (), ("bareos-fd",)),
    Program("Amanda", _BACKUP, ("amanda-client", "amanda-server", "amanda-backup_client", "amanda-backup_server")),
    Program("Rubrik", _BACKUP, ("rubrik-agent",), (), ("Rubrik Backup Service",)),
    Program("Cohesity", _BACKUP, ("cohesity-agent",), (), ("CohesityAgent",)),
    Program("Rapid Recovery", _BACKUP, ("rapidrecovery-agent", "appassure-agent"), (), ("RapidRecoveryAgent", "AppAssureAgent")),
    Program("ShadowProtect", _BACKUP, services=("ShadowProtectSvc", "StorageCraft Raw Agent")),
    Program("NetVault", _BACKUP, (), ("/usr/netvault",), ("NetVault Process Manager",)),
    Program("R1Soft", _BACKUP, ("serverbackup-agent", "r1soft-cdp-enterprise-agent")),
)  # fmt: skip

_PROTECTION: tuple[Program, ...] = (
    Program("McAfee (Trellix)", _ANTIVIRUS, ("McAfeeVSEForLinux", "MFEcma", "McAfeeTP", "ISecTP"), ("/opt/McAfee", "/opt/NAI"),
            ("McShield", "mfemms", "masvc", "McAfeeFramework")),
    Program("Symantec Endpoint Protection", _ANTIVIRUS, ("sav", "savap", "sdcss", "sdcss-kmod"), ("/opt/Symantec",),
            ("SepMasterService", "Symantec AntiVirus", "Norton AntiVirus Server", "SepScanService")),
    Program("Trend Micro", _ANTIVIRUS, ("ds_agent", "ds-agent", "SProtectLinux"), ("/opt/ds_agent", "/opt/TrendMicro"),
            ("ntrtscan", "tmlisten", "ds_agent", "Amsp")),
    Program("Sophos", _ANTIVIRUS, (), ("/opt/sophos-spl", "/opt/sophos-av"), ("SAVService", "Sophos MCS Agent", "Sophos Agent")),
    Program("CrowdStrike Falcon", _ANTIVIRUS, ("falcon-sensor",), ("/opt/CrowdStrike",), ("CSFalconService",)),
    Program("Defender for Endpoint", _ANTIVIRUS, ("mdatp",), ("/etc/opt/microsoft/mdatp",), ("Sense",)),
    Program("ClamAV", _ANTIVIRUS, ("clamav-daemon", "clamav-server", "clamd", "clamav"), (), ("clamd", "ClamD")),
    Program("Carbon Black", _ANTIVIRUS, ("cb-psc-sensor", "cbsensor", "cbagent"), ("/opt/carbonblack",),
            ("CbDefense", "CarbonBlack", "Parity")),
    Program("SentinelOne", _ANTIVIRUS, ("SentinelAgent", "sentinelagent"), ("/opt/sentinelone",), ("SentinelAgent",)),
    Program("Cylance", _ANTIVIRUS, ("CylancePROTECT", "cylance-protect"), ("/opt/cylance",), ("CylanceSvc",)),
    Program("ESET", _ANTIVIRUS, ("eea", "efs", "esets"), ("/opt/eset",), ("ekrn",)),
    Program("Kaspersky", _ANTIVIRUS, ("kesl", "kesl-astra", "klnagent", "klnagent64", "kav4fs"), ("/opt/kaspersky",),
            ("AVP*", "klnagent")),
    Program("Bitdefender", _ANTIVIRUS, ("bitdefender-security-tools", "bitdefender-scanner"), ("/opt/bitdefender-security-tools",
            "/opt/BitDefender"), ("EPSecurityService",)),
    Program("Cortex XDR", _ANTIVIRUS, ("cortex-agent",), ("/opt/traps",), ("cyserver", "CyveraService")),
    Program("FireEye", _ANTIVIRUS, ("xagt",), ("/opt/fireeye",), ("xagt",)),
    Program("Cisco Secure Endpoint", _ANTIVIRUS, ("ciscoampconnector",), ("/opt/cisco/amp",), ("CiscoAMP*",)),
    Program("Wazuh or OSSEC", _ANTIVIRUS, ("wazuh-agent", "ossec-hids*"), ("/var/ossec/etc/ossec.conf",), ("WazuhSvc", "OssecSvc")),
    Program("Malwarebytes", _ANTIVIRUS, (), (), ("MBAMService", "MBEndpointAgent")),
)  # fmt: skip

_MANAGERS: tuple[Program, ...] = (
    Program("System Center Operations Manager", _MANAGEMENT, ("scx",), ("/etc/opt/microsoft/scx",), ("HealthService",)),
    Program("Microsoft Operations Manager 2005", _MANAGEMENT, services=("MOM",)),
    Program("Configuration Manager (SMS, SCCM)", _MANAGEMENT, (), ("/opt/microsoft/configmgr",), ("CcmExec", "clisvcl")),
    Program("Azure Arc", _MANAGEMENT, ("azcmagent",), (), ("himds",)),
    Program("Intune", _MANAGEMENT, ("intune-portal",), (), ("IntuneManagementExtension",)),
    Program("Altiris", _MANAGEMENT, ("altiris-nsclient*",), ("/opt/altiris/notification/nsagent",), ("AeXNSClient",)),
    Program("LANDesk (Ivanti)", _MANAGEMENT, ("cba8", "ldsm-*"), ("/opt/landesk",), ("CBA8",)),
    Program("Tivoli Monitoring", _MANAGEMENT, (), ("/opt/IBM/ITM",), ("KNTCMA_Primary", "lcfd")),
    Program("BigFix", _MANAGEMENT, ("BESAgent",), ("/opt/BESClient",), ("BESClient",)),
    Program("BMC Patrol", _MANAGEMENT, (), ("/opt/bmc/Patrol3", "/etc/patrol.d"), ("PatrolAgent",)),
    Program("BMC BladeLogic", _MANAGEMENT, ("BladeLogic_RSCD_Agent",), ("/opt/bmc/bladelogic", "/etc/rsc/rscd.conf"), ("RSCDsvc",)),
    Program("HP Operations Agent", _MANAGEMENT, ("HPOvCtrl", "HPOvSecCo"), ("/opt/OV/bin/opcagt", "/opt/perf/bin/perfstat"),
        ("OvCtrl",)),
    Program("Puppet", _MANAGEMENT, ("puppet", "puppet-agent"), ("/opt/puppetlabs/puppet",), ("puppet",)),
    Program("Chef", _MANAGEMENT, ("chef", "chef-client"), ("/etc/chef/client.rb",), ("chef-client",)),
    Program("Salt", _MANAGEMENT, ("salt-minion",), (), ("salt-minion",)),
    Program("CFEngine", _MANAGEMENT, ("cfengine3", "cfengine-nova", "cfengine-community")),
    Program("Zabbix", _MANAGEMENT, ("zabbix-agent", "zabbix-agent2"), (), ("Zabbix Agent*",)),
    Program("Nagios' NRPE", _MANAGEMENT, ("nagios-nrpe-server", "nrpe"), ("/usr/local/nagios/bin/nrpe",), ("nscp", "NSClientpp")),
    Program("Icinga", _MANAGEMENT, ("icinga2",), (), ("icinga2",)),
    Program("Checkmk", _MANAGEMENT, ("check-mk-agent",), (), ("CheckMkService", "Check_MK_Agent")),
    Program("Splunk", _MANAGEMENT, ("splunkforwarder", "splunk"), ("/opt/splunkforwarder",), ("SplunkForwarder", "Splunkd")),
    Program("Datadog", _MANAGEMENT, ("datadog-agent",), (), ("datadogagent",)),
    Program("Dynatrace", _MANAGEMENT, (), ("/opt/dynatrace/oneagent",), ("Dynatrace OneAgent",)),
    Program("New Relic", _MANAGEMENT, ("newrelic-infra",), (), ("newrelic-infra",)),
    Program("Tanium", _MANAGEMENT, ("TaniumClient", "taniumclient"), ("/opt/Tanium",), ("Tanium Client",)),
    Program("Qualys", _MANAGEMENT, ("qualys-cloud-agent",), (), ("QualysAgent",)),
    Program("Rapid7", _MANAGEMENT, (), ("/opt/rapid7/ir_agent",), ("ir_agent",)),
    Program("ManageEngine", _MANAGEMENT, (), ("/usr/local/manageengine",), ("ManageEngine Desktop Central - Agent",
        "ManageEngine UEMS - Agent")),
    Program("an inventory agent (OCS, FusionInventory, GLPI)", _MANAGEMENT, ("ocsinventory-agent", "fusioninventory-agent",
        "glpi-agent"), (),
            ("OCS Inventory Service", "FusionInventory-Agent", "GLPI-Agent")),
)  # fmt: skip

AGENTS: tuple[Program, ...] = (*_BACKUPS, *_PROTECTION, *_MANAGERS)
"""Every agent, in the order in which they are told of."""
