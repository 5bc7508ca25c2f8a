//! Kills and disturbs, as the seed says.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use sqlx::{Connection, Executor, SqliteConnection};

use crate::link::{Condition, Link};
use crate::random::Random;
use crate::run::{Run, Stop};
use crate::support::{block_on, new_path};
use crate::system::{Node, System};

pub(crate) struct Disturber<'a> {
    run: &'a Run,
    system: System,
    random: Random,
    /// Links that are disturbed, and until when.
    disturbed: Vec<(Instant, Arc<Link>)>,
    /// Whether there is more than changes: without, faults that are planted show by themselves.
    rough: bool,
    pub(crate) kills: u64,
    pub(crate) disturbances: u64,
}

/// What happens to the database while others are killed.
enum Database {
    Locked(SqliteConnection),
    Away(PathBuf),
}

impl<'a> Disturber<'a> {
    pub(crate) fn new(run: &'a Run, system: System, random: Random, rough: bool) -> Self {
        Self { run, system, random, disturbed: Vec::new(), rough, kills: 0, disturbances: 0 }
    }

    /// A pause, some trouble, and its end. What happens to links outlasts it.
    pub(crate) fn step(&mut self) -> Result<(), Stop> {
        self.run.sleep(self.random.millis(100, 700))?;
        self.mend_links();
        if !self.rough {
            return self.look();
        }
        let links = self.random.below(3);
        (0..links).for_each(|_| self.disturb_link());
        let kills_workspace = self.random.percent(35);
        let database = (!kills_workspace && self.random.percent(20)).then(|| self.disturb_database());
        let gates = self.system.gates.len();
        let victims: Vec<_> = (0..gates).filter(|_| self.random.percent(40)).collect();
        if kills_workspace {
            self.system.workspace.kill();
            self.kills += 1;
        }
        for gate in &victims {
            self.system.gates[*gate].node.kill();
            self.run.oracle.killed(*gate);
            self.kills += 1;
        }
        self.run.sleep(self.random.millis(20, 900))?;
        if let Some(database) = database {
            self.mend_database(database);
        }
        if self.random.percent(50) {
            self.restart_workspace(kills_workspace);
            self.restart_gates(&victims);
        } else {
            self.restart_gates(&victims);
            self.restart_workspace(kills_workspace);
        }
        self.look()
    }

    fn restart_workspace(&mut self, was_killed: bool) {
        if was_killed {
            self.system.workspace.start();
        }
    }

    fn restart_gates(&mut self, victims: &[usize]) {
        for gate in victims {
            self.system.gates[*gate].node.start();
        }
    }

    /// Nobody ends but those who are killed.
    fn look(&mut self) -> Result<(), Stop> {
        let gates = self.system.gates.iter_mut().map(|gate| &mut gate.node);
        if std::iter::once(&mut self.system.workspace).chain(gates).any(Node::is_lost) {
            return Err(self.run.fail("a process has ended by itself"));
        }
        Ok(())
    }

    fn disturb_link(&mut self) {
        let gate = self.random.below(self.system.gates.len());
        let gate = &self.system.gates[gate];
        let link = Arc::clone(if self.random.percent(70) { &gate.feed } else { &gate.check });
        let (condition, longest) = match self.random.below(10) {
            0..3 => (Condition::Reset, 1_500),
            3..5 => (Condition::Cut, 400),
            5..7 => (Condition::Slow(self.random.millis(20, 400)), 3_000),
            // Now and then longer than anybody waits for a word.
            7..9 => (Condition::Hole, if self.random.percent(10) { 17_000 } else { 2_500 }),
            _ => (Condition::Lossy, 1_000),
        };
        link.set(condition);
        let until = Instant::now() + self.random.millis(longest / 8, longest);
        self.disturbed.retain(|(_, other)| !Arc::ptr_eq(other, &link));
        self.disturbed.push((until, link));
        self.disturbances += 1;
    }

    fn mend_links(&mut self) {
        let now = Instant::now();
        for (_, link) in self.disturbed.extract_if(.., |(until, _)| *until <= now) {
            link.set(Condition::Sound);
        }
    }

    fn database_files(&self) -> [PathBuf; 3] {
        ["workspace.db", "workspace.db-wal", "workspace.db-shm"].map(|file| self.system.data_dir.join(file))
    }

    fn disturb_database(&mut self) -> Database {
        self.disturbances += 1;
        let files = self.database_files();
        if self.random.percent(50) {
            let away = new_path("database");
            std::fs::create_dir(&away).unwrap();
            for file in files.iter().filter(|file| file.exists()) {
                std::fs::rename(file, away.join(file.file_name().unwrap())).unwrap();
            }
            return Database::Away(away);
        }
        let url = format!("sqlite://{}", files[0].display());
        let connection = block_on(async {
            let mut connection = SqliteConnection::connect(&url).await.unwrap();
            connection.execute("PRAGMA busy_timeout = 5000").await.unwrap();
            connection.execute("BEGIN EXCLUSIVE").await.unwrap();
            connection
        });
        Database::Locked(connection)
    }

    fn mend_database(&self, database: Database) {
        match database {
            Database::Away(away) => {
                for file in self.database_files() {
                    let kept = away.join(file.file_name().unwrap());
                    if kept.exists() {
                        std::fs::rename(kept, file).unwrap();
                    }
                }
            }
            Database::Locked(mut connection) => block_on(async {
                connection.execute("ROLLBACK").await.unwrap();
                connection.close().await.unwrap();
            }),
        }
    }

    /// Ends all trouble.
    pub(crate) fn heal(&mut self) {
        for (_, link) in self.disturbed.drain(..) {
            link.set(Condition::Sound);
        }
    }

    /// The end of everybody's log.
    pub(crate) fn logs(&self) -> String {
        let mut text = format!("the workspace's log:\n{}", self.system.workspace.log());
        for (number, gate) in self.system.gates.iter().enumerate() {
            text.push_str(&format!("gate-{number}'s log:\n{}", gate.node.log()));
        }
        text
    }
}
