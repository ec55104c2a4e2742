-- The store of a batch as p2v wrote it with schema 1: one machine done, one parked, one under way, two waiting; paused.
PRAGMA application_id = 1882355298;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE events (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            at REAL NOT NULL,
            job TEXT NOT NULL,
            fence INTEGER NOT NULL,
            kind TEXT NOT NULL,
            data TEXT NOT NULL
        ) STRICT;
INSERT INTO "events" VALUES(1,1.0,'done',0,'added','{}');
INSERT INTO "events" VALUES(2,1.0,'runs',0,'added','{}');
INSERT INTO "events" VALUES(3,1.0,'waits',0,'added','{}');
INSERT INTO "events" VALUES(4,1.0,'pinned',0,'added','{}');
INSERT INTO "events" VALUES(5,1.0,'parked',0,'added','{}');
INSERT INTO "events" VALUES(6,100.0,'done',1,'claimed','{"attempt":1,"limit":3,"worker":"old:1"}');
INSERT INTO "events" VALUES(7,101.0,'done',1,'phase-started','{"phase":"copy","title":"Copying","total_bytes":1000}');
INSERT INTO "events" VALUES(8,102.0,'done',1,'bytes-done','{"count":1000,"phase":"copy"}');
INSERT INTO "events" VALUES(9,103.0,'done',1,'done','{"record":"/out/done.json","seconds":{"copy":1.5},"verified":true}');
INSERT INTO "events" VALUES(10,110.0,'runs',1,'claimed','{"attempt":1,"limit":3,"worker":"old:1"}');
INSERT INTO "events" VALUES(11,111.0,'runs',1,'phase-started','{"phase":"copy","title":"Copying","total_bytes":1000}');
INSERT INTO "events" VALUES(12,120.0,'parked',1,'claimed','{"attempt":1,"limit":3,"worker":"old:1"}');
INSERT INTO "events" VALUES(13,121.0,'parked',1,'parked','{"bundle":null,"code":"io","exit_code":74,"hint":"Look at its cable.","may_help":true,"message":"disk.img: cannot read"}');
INSERT INTO "events" VALUES(14,130.0,'',0,'paused','{}');
CREATE TABLE jobs (
            name TEXT NOT NULL PRIMARY KEY,
            place INTEGER NOT NULL,
            machine TEXT NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('waiting', 'running', 'done', 'parked', 'cancelled')),
            attempts INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
            fence INTEGER NOT NULL DEFAULT 0 CHECK (fence >= 0),
            worker TEXT NOT NULL DEFAULT '',
            lease_until REAL NOT NULL DEFAULT 0,
            not_before REAL NOT NULL DEFAULT 0,
            cancel_wished INTEGER NOT NULL DEFAULT 0,
            phases TEXT NOT NULL DEFAULT '[]',
            bytes_copied INTEGER NOT NULL DEFAULT 0,
            bytes_total INTEGER NOT NULL DEFAULT 0,
            seconds TEXT NOT NULL DEFAULT '{}',
            failure TEXT,
            verified INTEGER,
            record TEXT,
            began REAL NOT NULL DEFAULT 0,
            ended REAL NOT NULL DEFAULT 0
        ) STRICT;
INSERT INTO "jobs" VALUES('done',0,'{"after":null,"attempts":3,"before":null,"disk_format":"qcow2","folder":"/out","host":"","keys":[],"line":0,"name":"done","options":[],"priority":0,"sources":["/src/done.vmdk"],"verify":"none","wave":0,"window":null}','done',1,1,'',0.0,0.0,0,'[]',1000,1000,'{"copy":1.5}',NULL,1,'"/out/done.json"',100.0,103.0);
INSERT INTO "jobs" VALUES('runs',1,'{"after":null,"attempts":3,"before":null,"disk_format":"qcow2","folder":"/out","host":"","keys":[],"line":0,"name":"runs","options":[],"priority":0,"sources":["/src/runs.vmdk"],"verify":"none","wave":0,"window":null}','running',1,1,'old:1',140.0,0.0,0,'["copy"]',0,1000,'{}',NULL,NULL,NULL,110.0,0.0);
INSERT INTO "jobs" VALUES('waits',2,'{"after":null,"attempts":3,"before":null,"disk_format":"qcow2","folder":"/out","host":"","keys":[],"line":0,"name":"waits","options":[],"priority":0,"sources":["/src/waits.vmdk"],"verify":"none","wave":0,"window":null}','waiting',0,0,'',0.0,0.0,0,'[]',0,0,'{}',NULL,NULL,NULL,0.0,0.0);
INSERT INTO "jobs" VALUES('pinned',3,'{"after":null,"attempts":3,"before":null,"disk_format":"qcow2","folder":"/out","host":"san1","keys":[],"line":0,"name":"pinned","options":[],"priority":0,"sources":["/src/pinned.vmdk"],"verify":"none","wave":0,"window":null}','waiting',0,0,'',0.0,0.0,0,'[]',0,0,'{}',NULL,NULL,NULL,0.0,0.0);
INSERT INTO "jobs" VALUES('parked',4,'{"after":null,"attempts":3,"before":null,"disk_format":"qcow2","folder":"/out","host":"","keys":[],"line":0,"name":"parked","options":[],"priority":0,"sources":["/src/parked.vmdk"],"verify":"none","wave":0,"window":null}','parked',1,1,'',0.0,0.0,0,'[]',0,0,'{}','{"bundle":null,"code":"io","exit_code":74,"hint":"Look at its cable.","may_help":true,"message":"disk.img: cannot read"}',NULL,NULL,120.0,121.0);
CREATE TABLE settings (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) STRICT;
INSERT INTO "settings" VALUES('paused','1');
CREATE INDEX events_of_job ON events (job, number);
CREATE TRIGGER events_stay BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'events are never changed'); END;
CREATE TRIGGER events_are_kept BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'events are never removed'); END;
CREATE TRIGGER fences_grow BEFORE UPDATE OF fence ON jobs WHEN NEW.fence < OLD.fence
            BEGIN SELECT RAISE(ABORT, 'numbers of leases only grow'); END;
CREATE TRIGGER leased_jobs_are_kept BEFORE DELETE ON jobs WHEN OLD.fence > 0
            BEGIN SELECT RAISE(ABORT, 'a job that was leased stays'); END;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('events',14);
COMMIT;
