BEGIN TRANSACTION;
CREATE TABLE accounts (
	id INTEGER NOT NULL, 
	annotator_id INTEGER NOT NULL, 
	password VARCHAR(200), 
	creates_projects BOOLEAN NOT NULL, 
	active BOOLEAN NOT NULL, 
	created_at DATETIME NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (annotator_id), 
	FOREIGN KEY(annotator_id) REFERENCES annotators (id) ON DELETE CASCADE
);
INSERT INTO "accounts" VALUES(1,1,NULL,1,1,'2026-11-29 22:48:28.213574');
INSERT INTO "accounts" VALUES(2,2,NULL,0,1,'2026-11-29 22:48:28.268267');
INSERT INTO "accounts" VALUES(3,3,NULL,0,1,'2026-11-29 22:48:28.281496');
INSERT INTO "accounts" VALUES(4,4,NULL,0,1,'2026-11-29 22:48:28.301633');
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0003');
CREATE TABLE annotations (
	id INTEGER NOT NULL, 
	item_id INTEGER NOT NULL, 
	annotator_id INTEGER NOT NULL, 
	presented JSON NOT NULL, 
	ranks JSON, 
	skipped TEXT, 
	seconds DOUBLE, 
	created_at DATETIME NOT NULL, kind VARCHAR(20) DEFAULT 'ranking' NOT NULL, payload JSON DEFAULT '{}' NOT NULL, source VARCHAR(20) DEFAULT 'label' NOT NULL, lease VARCHAR(64), 
	PRIMARY KEY (id), 
	UNIQUE (item_id, annotator_id), 
	FOREIGN KEY(item_id) REFERENCES items (id) ON DELETE CASCADE, 
	FOREIGN KEY(annotator_id) REFERENCES annotators (id)
);
INSERT INTO "annotations" VALUES(1,12,2,'[1, 0]','[1, 2]',NULL,5.0,'2026-11-29 22:48:28.600836','pairwise','{"strength": 1}','label','xqB71M51GQqEXwJeSWWLnCYnj5tqpFUc');
INSERT INTO "annotations" VALUES(2,12,3,'[1, 0]','[2, 1]',NULL,6.0,'2026-11-29 22:48:28.657264','pairwise','{"strength": -1}','label','QS94N-47Tfw9KfjdDCk1-4dn4dZJJq_7');
INSERT INTO "annotations" VALUES(3,4,2,'[0, 1]','[1, 2]',NULL,5.0,'2026-11-29 22:48:28.732988','pairwise','{"strength": 1}','label','CLmFsmNHONQZoWwGolsuKdE7493ZnsSV');
INSERT INTO "annotations" VALUES(4,4,3,'[0, 1]','[2, 1]',NULL,6.0,'2026-11-29 22:48:28.793480','pairwise','{"strength": -1}','label','uqRtfCkx6ycNDPK1fjueSSQPM7nhutPZ');
INSERT INTO "annotations" VALUES(5,3,2,'[1, 0]','[1, 2]',NULL,5.0,'2026-11-29 22:48:28.852800','pairwise','{"strength": 4}','label','YmBy5fkgOskHA0RNIDKcuvDFWuuEyu3b');
INSERT INTO "annotations" VALUES(6,3,3,'[1, 0]','[1, 2]',NULL,6.0,'2026-11-29 22:48:28.900985','pairwise','{"strength": 4}','label','MHYX1KghoaQBHUMCHpzZ3LKwZye--dvB');
INSERT INTO "annotations" VALUES(7,6,2,'[1, 0]','[1, 2]',NULL,5.0,'2026-11-29 22:48:28.949045','pairwise','{"strength": 3, "critique": "why"}','label','K8DRaG2kXan5bPj8YMrdFfIuzziheBSh');
INSERT INTO "annotations" VALUES(8,6,3,'[1, 0]','[2, 1]',NULL,6.0,'2026-11-29 22:48:29.001316','pairwise','{"strength": -3, "critique": "why"}','label','IGZaG-Aws4v7eb60EC4M0tw-KaF0wHcx');
INSERT INTO "annotations" VALUES(9,9,2,'[1, 0]',NULL,NULL,9.0,'2026-11-29 22:48:29.049380','likert','{"ratings": {"helpful": [4, 1], "honest": [2, 3]}}','label','eKbfGCoN8wIp9pUaWW97HVTfYC4Qw3ao');
INSERT INTO "annotations" VALUES(10,9,3,'[0, 1]',NULL,NULL,9.0,'2026-11-29 22:48:29.093525','likert','{"ratings": {"helpful": [4, 1], "honest": [2, 3]}}','label','cgacDpyGuMZKUYMfu95ol2p4q2CLu-Ax');
INSERT INTO "annotations" VALUES(11,1,2,'[1, 0]','[1, 2]',NULL,5.0,'2026-11-29 22:48:29.144975','pairwise','{"strength": 2, "flags": {"unsafe": [1]}}','label','Um_GGGlty1dcFqBMSlSiOzyvboAFJHjq');
INSERT INTO "annotations" VALUES(12,1,3,'[0, 1]','[1, 2]',NULL,6.0,'2026-11-29 22:48:29.189826','pairwise','{"strength": 2, "flags": {"unsafe": [0]}}','label','5DV_TS6Sl1wn5J65j9b7VMt89kh8ryRX');
INSERT INTO "annotations" VALUES(13,7,2,'[1, 0]','[1, 2]',NULL,5.0,'2026-11-29 22:48:29.248944','pairwise','{"strength": 4}','label','OTdqS4MBp4VgrwtD82EiVf_a_rl1BFxn');
INSERT INTO "annotations" VALUES(14,7,3,'[1, 0]','[1, 2]',NULL,6.0,'2026-11-29 22:48:29.293457','pairwise','{"strength": 4}','label','1fUVo5bHyOmv76ywJerq9Sag1v4vAIrX');
INSERT INTO "annotations" VALUES(15,11,2,'[]',NULL,NULL,12.0,'2026-11-29 22:48:29.345167','demonstration','{"text": "written by 0"}','label','4NnAtL_aEjiCJYD1AheHeTgp6LKTRoon');
INSERT INTO "annotations" VALUES(16,11,3,'[]',NULL,NULL,12.0,'2026-11-29 22:48:29.383681','demonstration','{"text": "written by 1"}','label','AdKdR5sbVI_FNVq-EmsxaPtE2z_OYNjE');
INSERT INTO "annotations" VALUES(17,5,2,'[1, 0]','[1, 2]',NULL,5.0,'2026-11-29 22:48:29.428891','pairwise','{"strength": 2, "flags": {"unsafe": [1]}}','label','V5pqV0THJxvyS3P_fwvsIK0m4bDT2OfK');
INSERT INTO "annotations" VALUES(18,5,3,'[0, 1]','[1, 2]',NULL,6.0,'2026-11-29 22:48:29.473110','pairwise','{"strength": 2, "flags": {"unsafe": [0]}}','label','RmjC0TkAon2etF3-SbxHVzcxVukGcTCr');
INSERT INTO "annotations" VALUES(19,2,2,'[0, 1]','[1, 2]',NULL,5.0,'2026-11-29 22:48:29.517440','pairwise','{"strength": 3, "critique": "why"}','label','ouR3sqzRDih5oXZt-9kVuI5pZat3NxC_');
INSERT INTO "annotations" VALUES(20,2,3,'[0, 1]','[2, 1]',NULL,6.0,'2026-11-29 22:48:29.565298','pairwise','{"strength": -3, "critique": "why"}','label','_nGJGvKVVToHGYYJ70_TlIsTEEwPd-mP');
INSERT INTO "annotations" VALUES(21,8,2,'[0, 1, 2]','[2, 1, 3]',NULL,7.0,'2026-11-29 22:48:29.623946','ranking','{}','label','5ymbCEB37lExrI8Abu_W8ldnQfno4f3l');
INSERT INTO "annotations" VALUES(22,8,3,'[2, 0, 1]','[1, 2, 2]',NULL,7.0,'2026-11-29 22:48:29.669609','ranking','{}','label','ToO_kOQS6L-GgpM_gdDVgoD_Y0DPTHzm');
INSERT INTO "annotations" VALUES(24,10,3,'[0]',NULL,NULL,11.0,'2026-11-29 22:48:29.757759','correction','{"text": "the end", "corrected": 0}','label','uKeLktrXF0hSSC5g0HY2gcKOYUC--T4o');
INSERT INTO "annotations" VALUES(25,12,4,'[1, 0]','[2, 1]',NULL,NULL,'2026-11-29 22:48:29.909000','pairwise','{"strength": -1}','label','NPEAMVazObn3LTi_BIJMRHjHZtSf66OP');
INSERT INTO "annotations" VALUES(26,2,1,'[0, 1]','[2, 1]',NULL,NULL,'2026-11-29 22:48:30.020041','pairwise','{"strength": -3, "critique": "decided"}','adjudication',NULL);
INSERT INTO "annotations" VALUES(27,14,5,'[0, 1]','[1, 2]',NULL,NULL,'2026-11-29 22:48:30.156838','pairwise','{"strength": 3}','label',NULL);
INSERT INTO "annotations" VALUES(28,14,6,'[0, 1]','[2, 1]',NULL,NULL,'2026-11-29 22:48:30.158714','pairwise','{"strength": -1}','label',NULL);
CREATE TABLE annotators (
	id INTEGER NOT NULL, 
	name VARCHAR(200) NOT NULL, 
	kind VARCHAR(20) NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (name)
);
INSERT INTO "annotators" VALUES(1,'olga','person');
INSERT INTO "annotators" VALUES(2,'anna','person');
INSERT INTO "annotators" VALUES(3,'ben','person');
INSERT INTO "annotators" VALUES(4,'cleo','person');
INSERT INTO "annotators" VALUES(5,'w1','person');
INSERT INTO "annotators" VALUES(6,'w2','person');
CREATE TABLE api_tokens (
	id INTEGER NOT NULL, 
	account_id INTEGER NOT NULL, 
	name VARCHAR(200) NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	scopes JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	expires_at DATETIME, 
	revoked BOOLEAN NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(account_id) REFERENCES accounts (id) ON DELETE CASCADE, 
	UNIQUE (digest)
);
CREATE TABLE audit (
	id INTEGER NOT NULL, 
	at DATETIME NOT NULL, 
	account_id INTEGER, 
	project_id INTEGER, 
	action VARCHAR(50) NOT NULL, 
	subject VARCHAR(200) NOT NULL, 
	address VARCHAR(100) NOT NULL, 
	detail JSON NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(account_id) REFERENCES accounts (id) ON DELETE SET NULL, 
	FOREIGN KEY(project_id) REFERENCES projects (id) ON DELETE SET NULL
);
INSERT INTO "audit" VALUES(1,'2026-11-29 22:48:28.229173',1,NULL,'login','','test','{}');
INSERT INTO "audit" VALUES(2,'2026-11-29 22:48:28.269194',2,NULL,'login','','test','{}');
INSERT INTO "audit" VALUES(3,'2026-11-29 22:48:28.282202',3,NULL,'login','','test','{}');
INSERT INTO "audit" VALUES(4,'2026-11-29 22:48:28.302338',4,NULL,'login','','test','{}');
INSERT INTO "audit" VALUES(5,'2026-11-29 22:48:28.332154',1,1,'project created','eight','','{}');
INSERT INTO "audit" VALUES(6,'2026-11-29 22:48:28.426364',1,1,'items added','','','{"counted": {"added": 12, "there_already": 0}}');
INSERT INTO "audit" VALUES(7,'2026-11-29 22:48:28.440952',1,1,'invited','annotator','','{"uses": 5}');
INSERT INTO "audit" VALUES(8,'2026-11-29 22:48:28.474093',2,1,'joined','annotator','','{}');
INSERT INTO "audit" VALUES(9,'2026-11-29 22:48:28.493605',3,1,'joined','annotator','','{}');
INSERT INTO "audit" VALUES(10,'2026-11-29 22:48:28.502489',4,1,'joined','annotator','','{}');
INSERT INTO "audit" VALUES(11,'2026-11-29 22:48:29.925168',1,1,'items added','','','{"counted": {"added": 1, "there_already": 0}}');
INSERT INTO "audit" VALUES(12,'2026-11-29 22:48:30.022374',1,1,'decided','p1','','{}');
CREATE TABLE candidates (
	id INTEGER NOT NULL, 
	item_id INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	text TEXT NOT NULL, 
	source VARCHAR(200) NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (item_id, position), 
	FOREIGN KEY(item_id) REFERENCES items (id) ON DELETE CASCADE
);
INSERT INTO "candidates" VALUES(1,1,0,'the Rhine','');
INSERT INTO "candidates" VALUES(2,1,1,'Paris','');
INSERT INTO "candidates" VALUES(3,2,0,'the Rhine','');
INSERT INTO "candidates" VALUES(4,2,1,'Paris','');
INSERT INTO "candidates" VALUES(5,3,0,'the Rhine','');
INSERT INTO "candidates" VALUES(6,3,1,'Paris','');
INSERT INTO "candidates" VALUES(7,4,0,'the Rhine','');
INSERT INTO "candidates" VALUES(8,4,1,'Paris','');
INSERT INTO "candidates" VALUES(9,5,0,'the Rhine','');
INSERT INTO "candidates" VALUES(10,5,1,'Paris','');
INSERT INTO "candidates" VALUES(11,6,0,'the Rhine','');
INSERT INTO "candidates" VALUES(12,6,1,'Paris','');
INSERT INTO "candidates" VALUES(13,7,0,'a','');
INSERT INTO "candidates" VALUES(14,7,1,'b','');
INSERT INTO "candidates" VALUES(15,8,0,'x','');
INSERT INTO "candidates" VALUES(16,8,1,'y','');
INSERT INTO "candidates" VALUES(17,8,2,'z','');
INSERT INTO "candidates" VALUES(18,9,0,'u','');
INSERT INTO "candidates" VALUES(19,9,1,'v','');
INSERT INTO "candidates" VALUES(20,10,0,'teh end','');
INSERT INTO "candidates" VALUES(21,12,0,'g','');
INSERT INTO "candidates" VALUES(22,12,1,'h','');
INSERT INTO "candidates" VALUES(23,13,0,'the Rhine','');
INSERT INTO "candidates" VALUES(24,13,1,'Paris','');
INSERT INTO "candidates" VALUES(25,14,0,'s','');
INSERT INTO "candidates" VALUES(26,14,1,'t','');
CREATE TABLE deliveries (
	id INTEGER NOT NULL, 
	webhook_id INTEGER NOT NULL, 
	"key" VARCHAR(200) NOT NULL, 
	body JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	attempts INTEGER NOT NULL, 
	due_at DATETIME, 
	status VARCHAR(200) NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (webhook_id, "key"), 
	FOREIGN KEY(webhook_id) REFERENCES webhooks (id) ON DELETE CASCADE
);
CREATE TABLE events (
	id INTEGER NOT NULL, 
	at DATETIME NOT NULL, 
	what VARCHAR(20) NOT NULL, 
	item_id INTEGER NOT NULL, 
	annotator_id INTEGER NOT NULL, 
	lease VARCHAR(64), 
	PRIMARY KEY (id), 
	FOREIGN KEY(item_id) REFERENCES items (id) ON DELETE CASCADE, 
	FOREIGN KEY(annotator_id) REFERENCES annotators (id) ON DELETE CASCADE
);
INSERT INTO "events" VALUES(1,'2026-11-29 22:48:28.554653','taken',12,2,'xqB71M51GQqEXwJeSWWLnCYnj5tqpFUc');
INSERT INTO "events" VALUES(2,'2026-11-29 22:48:28.602912','answered',12,2,'xqB71M51GQqEXwJeSWWLnCYnj5tqpFUc');
INSERT INTO "events" VALUES(3,'2026-11-29 22:48:28.627226','taken',12,3,'QS94N-47Tfw9KfjdDCk1-4dn4dZJJq_7');
INSERT INTO "events" VALUES(4,'2026-11-29 22:48:28.658120','answered',12,3,'QS94N-47Tfw9KfjdDCk1-4dn4dZJJq_7');
INSERT INTO "events" VALUES(5,'2026-11-29 22:48:28.719801','taken',4,2,'CLmFsmNHONQZoWwGolsuKdE7493ZnsSV');
INSERT INTO "events" VALUES(6,'2026-11-29 22:48:28.733832','answered',4,2,'CLmFsmNHONQZoWwGolsuKdE7493ZnsSV');
INSERT INTO "events" VALUES(7,'2026-11-29 22:48:28.762998','taken',4,3,'uqRtfCkx6ycNDPK1fjueSSQPM7nhutPZ');
INSERT INTO "events" VALUES(8,'2026-11-29 22:48:28.794398','answered',4,3,'uqRtfCkx6ycNDPK1fjueSSQPM7nhutPZ');
INSERT INTO "events" VALUES(9,'2026-11-29 22:48:28.835070','taken',3,2,'YmBy5fkgOskHA0RNIDKcuvDFWuuEyu3b');
INSERT INTO "events" VALUES(10,'2026-11-29 22:48:28.853581','answered',3,2,'YmBy5fkgOskHA0RNIDKcuvDFWuuEyu3b');
INSERT INTO "events" VALUES(11,'2026-11-29 22:48:28.881306','taken',3,3,'MHYX1KghoaQBHUMCHpzZ3LKwZye--dvB');
INSERT INTO "events" VALUES(12,'2026-11-29 22:48:28.901774','answered',3,3,'MHYX1KghoaQBHUMCHpzZ3LKwZye--dvB');
INSERT INTO "events" VALUES(13,'2026-11-29 22:48:28.926826','taken',6,2,'K8DRaG2kXan5bPj8YMrdFfIuzziheBSh');
INSERT INTO "events" VALUES(14,'2026-11-29 22:48:28.949828','answered',6,2,'K8DRaG2kXan5bPj8YMrdFfIuzziheBSh');
INSERT INTO "events" VALUES(15,'2026-11-29 22:48:28.985937','taken',6,3,'IGZaG-Aws4v7eb60EC4M0tw-KaF0wHcx');
INSERT INTO "events" VALUES(16,'2026-11-29 22:48:29.002251','answered',6,3,'IGZaG-Aws4v7eb60EC4M0tw-KaF0wHcx');
INSERT INTO "events" VALUES(17,'2026-11-29 22:48:29.036643','taken',9,2,'eKbfGCoN8wIp9pUaWW97HVTfYC4Qw3ao');
INSERT INTO "events" VALUES(18,'2026-11-29 22:48:29.050174','answered',9,2,'eKbfGCoN8wIp9pUaWW97HVTfYC4Qw3ao');
INSERT INTO "events" VALUES(19,'2026-11-29 22:48:29.075006','taken',9,3,'cgacDpyGuMZKUYMfu95ol2p4q2CLu-Ax');
INSERT INTO "events" VALUES(20,'2026-11-29 22:48:29.094504','answered',9,3,'cgacDpyGuMZKUYMfu95ol2p4q2CLu-Ax');
INSERT INTO "events" VALUES(21,'2026-11-29 22:48:29.122710','taken',1,2,'Um_GGGlty1dcFqBMSlSiOzyvboAFJHjq');
INSERT INTO "events" VALUES(22,'2026-11-29 22:48:29.147944','answered',1,2,'Um_GGGlty1dcFqBMSlSiOzyvboAFJHjq');
INSERT INTO "events" VALUES(23,'2026-11-29 22:48:29.179891','taken',1,3,'5DV_TS6Sl1wn5J65j9b7VMt89kh8ryRX');
INSERT INTO "events" VALUES(24,'2026-11-29 22:48:29.190652','answered',1,3,'5DV_TS6Sl1wn5J65j9b7VMt89kh8ryRX');
INSERT INTO "events" VALUES(25,'2026-11-29 22:48:29.231749','taken',7,2,'OTdqS4MBp4VgrwtD82EiVf_a_rl1BFxn');
INSERT INTO "events" VALUES(26,'2026-11-29 22:48:29.249734','answered',7,2,'OTdqS4MBp4VgrwtD82EiVf_a_rl1BFxn');
INSERT INTO "events" VALUES(27,'2026-11-29 22:48:29.273168','taken',7,3,'1fUVo5bHyOmv76ywJerq9Sag1v4vAIrX');
INSERT INTO "events" VALUES(28,'2026-11-29 22:48:29.294249','answered',7,3,'1fUVo5bHyOmv76ywJerq9Sag1v4vAIrX');
INSERT INTO "events" VALUES(29,'2026-11-29 22:48:29.321018','taken',11,2,'4NnAtL_aEjiCJYD1AheHeTgp6LKTRoon');
INSERT INTO "events" VALUES(30,'2026-11-29 22:48:29.345948','answered',11,2,'4NnAtL_aEjiCJYD1AheHeTgp6LKTRoon');
INSERT INTO "events" VALUES(31,'2026-11-29 22:48:29.362570','taken',11,3,'AdKdR5sbVI_FNVq-EmsxaPtE2z_OYNjE');
INSERT INTO "events" VALUES(32,'2026-11-29 22:48:29.384513','answered',11,3,'AdKdR5sbVI_FNVq-EmsxaPtE2z_OYNjE');
INSERT INTO "events" VALUES(33,'2026-11-29 22:48:29.407141','taken',5,2,'V5pqV0THJxvyS3P_fwvsIK0m4bDT2OfK');
INSERT INTO "events" VALUES(34,'2026-11-29 22:48:29.429649','answered',5,2,'V5pqV0THJxvyS3P_fwvsIK0m4bDT2OfK');
INSERT INTO "events" VALUES(35,'2026-11-29 22:48:29.450774','taken',5,3,'RmjC0TkAon2etF3-SbxHVzcxVukGcTCr');
INSERT INTO "events" VALUES(36,'2026-11-29 22:48:29.473872','answered',5,3,'RmjC0TkAon2etF3-SbxHVzcxVukGcTCr');
INSERT INTO "events" VALUES(37,'2026-11-29 22:48:29.498545','taken',2,2,'ouR3sqzRDih5oXZt-9kVuI5pZat3NxC_');
INSERT INTO "events" VALUES(38,'2026-11-29 22:48:29.518381','answered',2,2,'ouR3sqzRDih5oXZt-9kVuI5pZat3NxC_');
INSERT INTO "events" VALUES(39,'2026-11-29 22:48:29.555838','taken',2,3,'_nGJGvKVVToHGYYJ70_TlIsTEEwPd-mP');
INSERT INTO "events" VALUES(40,'2026-11-29 22:48:29.566247','answered',2,3,'_nGJGvKVVToHGYYJ70_TlIsTEEwPd-mP');
INSERT INTO "events" VALUES(41,'2026-11-29 22:48:29.594975','taken',8,2,'5ymbCEB37lExrI8Abu_W8ldnQfno4f3l');
INSERT INTO "events" VALUES(42,'2026-11-29 22:48:29.625274','answered',8,2,'5ymbCEB37lExrI8Abu_W8ldnQfno4f3l');
INSERT INTO "events" VALUES(43,'2026-11-29 22:48:29.655702','taken',8,3,'ToO_kOQS6L-GgpM_gdDVgoD_Y0DPTHzm');
INSERT INTO "events" VALUES(44,'2026-11-29 22:48:29.670418','answered',8,3,'ToO_kOQS6L-GgpM_gdDVgoD_Y0DPTHzm');
INSERT INTO "events" VALUES(45,'2026-11-29 22:48:29.708142','taken',10,2,'qHuz_2bG8PPMiv7j7h-96zg7CVm6YWji');
INSERT INTO "events" VALUES(46,'2026-11-29 22:48:29.712914','answered',10,2,'qHuz_2bG8PPMiv7j7h-96zg7CVm6YWji');
INSERT INTO "events" VALUES(47,'2026-11-29 22:48:29.730741','taken',10,3,'uKeLktrXF0hSSC5g0HY2gcKOYUC--T4o');
INSERT INTO "events" VALUES(48,'2026-11-29 22:48:29.758537','answered',10,3,'uKeLktrXF0hSSC5g0HY2gcKOYUC--T4o');
INSERT INTO "events" VALUES(49,'2026-11-29 22:48:29.852042','undone',10,2,'qHuz_2bG8PPMiv7j7h-96zg7CVm6YWji');
INSERT INTO "events" VALUES(50,'2026-11-29 22:48:29.874839','taken',12,4,'NPEAMVazObn3LTi_BIJMRHjHZtSf66OP');
INSERT INTO "events" VALUES(51,'2026-11-29 22:48:29.909834','answered',12,4,'NPEAMVazObn3LTi_BIJMRHjHZtSf66OP');
INSERT INTO "events" VALUES(52,'2026-11-29 22:48:29.941837','taken',13,4,'ItqUllFE7uGMRqIIyF2BLGIhG1dmTP6P');
INSERT INTO "events" VALUES(53,'2026-11-29 22:48:30.021397','adjudicated',2,1,NULL);
CREATE TABLE invitations (
	id INTEGER NOT NULL, 
	project_id INTEGER NOT NULL, 
	role VARCHAR(20) NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	uses INTEGER NOT NULL, 
	expires_at DATETIME NOT NULL, 
	created_by INTEGER NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(project_id) REFERENCES projects (id) ON DELETE CASCADE, 
	UNIQUE (digest), 
	FOREIGN KEY(created_by) REFERENCES accounts (id) ON DELETE CASCADE
);
INSERT INTO "invitations" VALUES(1,1,'annotator','5d97d1b71ad9f0830593aad8bf5000c458f4a5745998290470f36fb1bdb66ae4',2,'2026-12-13 22:48:28.440567',1);
CREATE TABLE items (
	id INTEGER NOT NULL, 
	project_id INTEGER NOT NULL, 
	external_id VARCHAR(500) NOT NULL, 
	messages JSON NOT NULL, 
	columns JSON NOT NULL, kind VARCHAR(20) DEFAULT '' NOT NULL, part VARCHAR(20) DEFAULT 'work' NOT NULL, gold JSON, explanation TEXT DEFAULT '' NOT NULL, priority INTEGER DEFAULT '0' NOT NULL, score DOUBLE DEFAULT '0' NOT NULL, slots INTEGER DEFAULT '0' NOT NULL, disputed BOOLEAN DEFAULT false NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (project_id, external_id), 
	FOREIGN KEY(project_id) REFERENCES projects (id) ON DELETE CASCADE
);
INSERT INTO "items" VALUES(1,1,'p0','[{"role": "user", "content": "Name a river 0"}]','{}','','work',NULL,'',0,0.0,0,0);
INSERT INTO "items" VALUES(2,1,'p1','[{"role": "user", "content": "Name a river 1"}]','{}','','work',NULL,'',0,0.0,0,0);
INSERT INTO "items" VALUES(3,1,'p2','[{"role": "user", "content": "Name a river 2"}]','{}','','work',NULL,'',0,0.0,0,0);
INSERT INTO "items" VALUES(4,1,'p3','[{"role": "user", "content": "Name a river 3"}]','{}','','work',NULL,'',0,0.0,0,1);
INSERT INTO "items" VALUES(5,1,'p4','[{"role": "user", "content": "Name a river 4"}]','{}','','work',NULL,'',0,0.0,0,0);
INSERT INTO "items" VALUES(6,1,'p5','[{"role": "user", "content": "Name a river 5"}]','{}','','work',NULL,'',0,0.0,0,1);
INSERT INTO "items" VALUES(7,1,'own','[{"role": "user", "content": "Own kind"}]','{}','','work',NULL,'',0,0.0,0,0);
INSERT INTO "items" VALUES(8,1,'r','[{"role": "user", "content": "Rank"}]','{}','ranking','work',NULL,'',0,0.0,0,1);
INSERT INTO "items" VALUES(9,1,'l','[{"role": "user", "content": "Rate"}]','{}','likert','work',NULL,'',0,0.0,0,0);
INSERT INTO "items" VALUES(10,1,'c','[{"role": "user", "content": "Correct"}]','{}','correction','work',NULL,'',0,0.0,0,0);
INSERT INTO "items" VALUES(11,1,'d','[{"role": "user", "content": "Write"}]','{}','demonstration','work',NULL,'',0,0.0,0,0);
INSERT INTO "items" VALUES(12,1,'t','[{"role": "user", "content": "Gold"}]','{}','','training','{"strength": 2}','because',0,0.0,0,0);
INSERT INTO "items" VALUES(13,1,'late','[{"role": "user", "content": "late"}]','{}','','work',NULL,'',0,0.0,1,0);
INSERT INTO "items" VALUES(14,2,'i1','[{"role": "user", "content": "q"}]','{}','pairwise','work',NULL,'',0,0.0,1,0);
CREATE TABLE leases (
	id VARCHAR(64) NOT NULL, 
	item_id INTEGER NOT NULL, 
	annotator_id INTEGER NOT NULL, 
	presented JSON NOT NULL, 
	taken_at DATETIME NOT NULL, 
	expires_at DATETIME NOT NULL, 
	draft JSON, 
	chat JSON, 
	PRIMARY KEY (id), 
	UNIQUE (item_id, annotator_id), 
	FOREIGN KEY(item_id) REFERENCES items (id) ON DELETE CASCADE, 
	FOREIGN KEY(annotator_id) REFERENCES annotators (id) ON DELETE CASCADE
);
INSERT INTO "leases" VALUES('Si7g7u5o5EzTThaQOa_OZEPsOG013Epm',10,2,'[0]','2026-11-29 22:48:29.852485','2026-11-29 23:18:29.852485','{"answer": {"text": "the end", "corrected": 0}}',NULL);
INSERT INTO "leases" VALUES('ItqUllFE7uGMRqIIyF2BLGIhG1dmTP6P',13,4,'[0, 1]','2026-11-29 22:48:29.941588','2026-11-29 23:18:29.956787','{"answer": {"strength": 3, "flags": {"wrong": [1]}, "critique": "half"}, "seconds": 4}',NULL);
CREATE TABLE login_sessions (
	id VARCHAR(64) NOT NULL, 
	account_id INTEGER NOT NULL, 
	csrf VARCHAR(64) NOT NULL, 
	created_at DATETIME NOT NULL, 
	expires_at DATETIME NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(account_id) REFERENCES accounts (id) ON DELETE CASCADE
);
INSERT INTO "login_sessions" VALUES('8e28adc3724586e916bd4f85beb5572acd5b486b7c1c1361d74f85814dc1421d',1,'zCky3Brem2UR_7NXV3wvbhF1lS3Elnju','2026-11-29 22:48:28.214130','2026-12-13 22:48:28.214130');
INSERT INTO "login_sessions" VALUES('94ce21fd24ca94fc1d2f86a1dca546e22b9e7308f22aebdaacd1f285bce19b3d',2,'Oxb2f1l3WNUoWqihADObm52bcc63A-_V','2026-11-29 22:48:28.268454','2026-12-13 22:48:28.268454');
INSERT INTO "login_sessions" VALUES('805ba5cb3400f65a48f8b5d63d3187fa241ebaeaa16048f76b4fb1f9e0fc4b17',3,'vjl7hMFlNBOPezuZqBDBu_Q4VbTACojk','2026-11-29 22:48:28.281653','2026-12-13 22:48:28.281653');
INSERT INTO "login_sessions" VALUES('a2e85b3099e15a14212c1c69883a701e9f7c05b0cb97782cfb32e972a3050ec0',4,'B5mxm5RlTeEjqZytsVroA166shYCFDuy','2026-11-29 22:48:28.301785','2026-12-13 22:48:28.301785');
CREATE TABLE members (
	id INTEGER NOT NULL, 
	project_id INTEGER NOT NULL, 
	annotator_id INTEGER NOT NULL, 
	role VARCHAR(20) NOT NULL, 
	state VARCHAR(20) NOT NULL, 
	quota INTEGER, 
	score DOUBLE, 
	met INTEGER NOT NULL, 
	answered INTEGER NOT NULL, 
	joined_at DATETIME NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (project_id, annotator_id), 
	FOREIGN KEY(project_id) REFERENCES projects (id) ON DELETE CASCADE, 
	FOREIGN KEY(annotator_id) REFERENCES annotators (id) ON DELETE CASCADE
);
INSERT INTO "members" VALUES(1,1,1,'owner','active',NULL,NULL,0,0,'2026-11-29 22:48:28.333266');
INSERT INTO "members" VALUES(2,1,2,'annotator','active',NULL,NULL,10,10,'2026-11-29 22:48:28.473620');
INSERT INTO "members" VALUES(3,1,3,'annotator','active',NULL,NULL,11,11,'2026-11-29 22:48:28.493244');
INSERT INTO "members" VALUES(4,1,4,'annotator','active',NULL,NULL,0,0,'2026-11-29 22:48:28.502142');
CREATE TABLE projects (
	id INTEGER NOT NULL, 
	name VARCHAR(200) NOT NULL, 
	guidelines TEXT NOT NULL, 
	created_at DATETIME NOT NULL, settings JSON DEFAULT '{}' NOT NULL, pseudonym_key VARCHAR(64), 
	PRIMARY KEY (id), 
	UNIQUE (name)
);
INSERT INTO "projects" VALUES(1,'eight','Be fair.','2026-11-29 22:48:28.318990','{"kind": "pairwise", "steps": 8, "tie": true, "both_bad": true, "attributes": [{"name": "helpful", "low": 0, "high": 4, "help": ""}, {"name": "honest", "low": 1, "high": 5, "help": ""}], "flags": ["unsafe", "wrong"], "critique": "optional", "turns": 3, "overlap": 2, "lease_minutes": 30.0, "quota": null, "gold_rate": 0.0, "pass_mark": 0.7, "dispute_below": 0.67, "price_per_task": 0.0, "price_per_hour": 0.0, "currency": "EUR", "skip_reasons": ["I do not know the subject", "the prompt makes no sense", "it disturbs me", "it does not display", "other"], "milestones": [25, 50, 75, 100]}',NULL);
INSERT INTO "projects" VALUES(2,'imported','','2026-11-29 22:48:30.117727','{"kind": "ranking", "steps": 4, "tie": true, "both_bad": true, "attributes": [{"name": "helpful", "low": 1, "high": 5, "help": ""}, {"name": "honest", "low": 1, "high": 5, "help": ""}, {"name": "harmless", "low": 1, "high": 5, "help": ""}], "flags": ["fails the instruction", "makes things up", "unsafe", "private information", "wrong language"], "critique": "optional", "turns": 3, "overlap": 3, "lease_minutes": 30.0, "quota": null, "gold_rate": 0.0, "pass_mark": 0.7, "dispute_below": 0.67, "price_per_task": 0.0, "price_per_hour": 0.0, "currency": "EUR", "skip_reasons": ["I do not know the subject", "the prompt makes no sense", "it disturbs me", "it does not display", "other"], "milestones": [25, 50, 75, 100]}',NULL);
CREATE TABLE webhooks (
	id INTEGER NOT NULL, 
	project_id INTEGER NOT NULL, 
	url VARCHAR(1000) NOT NULL, 
	secret VARCHAR(64) NOT NULL, 
	created_at DATETIME NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(project_id) REFERENCES projects (id) ON DELETE CASCADE
);
CREATE INDEX ix_items_project_id ON items (project_id);
CREATE INDEX ix_candidates_item_id ON candidates (item_id);
CREATE INDEX ix_annotations_annotator_id ON annotations (annotator_id);
CREATE INDEX ix_annotations_item_id ON annotations (item_id);
CREATE INDEX ix_items_open ON items (project_id, priority DESC, score DESC, id) WHERE slots > 0;
CREATE INDEX ix_items_part ON items (project_id, part);
CREATE UNIQUE INDEX ix_annotations_lease ON annotations (lease);
CREATE INDEX ix_leases_annotator_id ON leases (annotator_id);
CREATE INDEX ix_leases_item_id ON leases (item_id);
CREATE INDEX ix_leases_expires_at ON leases (expires_at);
CREATE INDEX ix_events_item_id ON events (item_id);
CREATE INDEX ix_events_annotator_id ON events (annotator_id);
CREATE INDEX ix_members_annotator_id ON members (annotator_id);
CREATE INDEX ix_members_project_id ON members (project_id);
CREATE INDEX ix_login_sessions_account_id ON login_sessions (account_id);
CREATE INDEX ix_api_tokens_account_id ON api_tokens (account_id);
CREATE INDEX ix_invitations_project_id ON invitations (project_id);
CREATE INDEX ix_audit_project_id ON audit (project_id);
CREATE INDEX ix_audit_action ON audit (action, subject, at);
CREATE INDEX ix_audit_address ON audit (action, address, at);
CREATE INDEX ix_webhooks_project_id ON webhooks (project_id);
CREATE INDEX ix_deliveries_due_at ON deliveries (due_at);
CREATE INDEX ix_deliveries_webhook_id ON deliveries (webhook_id);
COMMIT;
