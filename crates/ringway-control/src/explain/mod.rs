//! `GET /v1/explain`: what would become of a connection, and why.
//!
//! Nothing is decided here: a listener's rules are rehearsed as workers run them, and each worker gives a copy of
//! its pool to choose from. Invariant: asking takes no place, no token and no turn, and what is told is of one
//! configuration, the one that every worker runs.

mod answer;
mod choice;
mod question;
mod reception;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_worker::{Message, PoolCopy};

pub(crate) use self::answer::Explanation;
use self::answer::{Choice, Pool, Worker};
use self::question::Question;
pub(crate) use self::question::{Wrong, WrongKind};
use crate::instance::{ANSWER_WITHIN, Instance, Post, View, lock};

/// From one look to the next while a reload is under way.
const RELOAD_PAUSE: Duration = Duration::from_millis(10);

/// What one worker said.
enum Heard {
    Copy(Box<PoolCopy>),
    Nothing,
    /// It runs another configuration than the one that was asked about.
    Other,
}

impl Instance {
    /// Answers a question. Blocks for [`ANSWER_WITHIN`] and what a reload takes that is under way, at most as
    /// long again.
    pub(crate) fn explain(&self, pairs: &[(String, String)]) -> Result<Explanation, Wrong> {
        let deadline = Instant::now() + ANSWER_WITHIN;
        loop {
            let view = self.view();
            let question = Question::read(&view.config, pairs)?;
            match self.answer(&view, &question) {
                Some(answer) => return Ok(answer),
                None if Instant::now() >= deadline => return Err(reloading()),
                None => std::thread::sleep(RELOAD_PAUSE),
            }
        }
    }

    /// None where the workers run another configuration by now.
    fn answer(&self, view: &View, question: &Question) -> Option<Explanation> {
        let listener = &view.config.listeners[question.listener];
        let visitor = &question.visitor;
        let spec = view
            .plan
            .listener_spec(view.layout().listener_at[question.listener]);
        let reception = spec.receive(visitor, self.epoch.elapsed());
        let pool = reception.route.ok().and_then(|route| view.pool_at(route));
        let mut silent_workers = Vec::new();
        let mut choices: Vec<Choice> = Vec::new();
        if let Some(pool) = pool {
            let heard = self.hear(view, view.layout().pool_at[pool]);
            for (post, heard) in view.serving().zip(heard) {
                let worker = &post.worker;
                let copy = match heard {
                    Heard::Copy(copy) => copy,
                    Heard::Nothing => {
                        silent_workers.push(worker.index);
                        continue;
                    }
                    Heard::Other => return None,
                };
                let told = self.told(view, pool, &copy, visitor.source);
                match choices.iter_mut().find(|choice| choice.told == told) {
                    Some(same) => same.workers.push(worker.index),
                    None => choices.push(Choice {
                        workers: vec![worker.index],
                        told,
                    }),
                }
            }
        }
        Some(Explanation {
            listener: listener.name.clone(),
            source: visitor.source.map(|at| at.to_string()),
            sender: visitor.sender.map(|at| at.to_string()),
            sni: visitor.name.map(|name| name.as_str().to_owned()),
            alpn: visitor.protocols.iter().map(reception::protocol).collect(),
            worker: view.which_worker(),
            admission: self.admission(listener, &spec, visitor, reception.admitted),
            route: reception::route(view, listener, visitor, &reception),
            pool: pool.map(|pool| Pool {
                name: view.config.pools[pool].name.clone(),
                balance: choice::balance(view.config.pools[pool].algorithm),
                stable: choice::is_stable(view.config.pools[pool].algorithm),
                decides: choice::decides(view.config.pools[pool].algorithm),
            }),
            choices,
            silent_workers,
        })
    }

    /// A copy of the pool from each worker that serves.
    fn hear(&self, view: &View, pool: u16) -> Vec<Heard> {
        let mut asked = lock(&self.pool_copies);
        let workers = || view.serving().map(|post| &post.worker);
        for worker in workers() {
            let inquiry = asked.entry(worker.index).or_default();
            inquiry.ask(|reply| worker.send(Message::Pool(pool, reply)));
        }
        let deadline = Instant::now() + ANSWER_WITHIN;
        let heard = workers().map(|worker| {
            let inquiry = asked.entry(worker.index).or_default();
            match inquiry.wait_until(deadline) {
                None => Heard::Nothing,
                // A worker that stood still may answer who asked before; it is asked again then.
                Some(Some(copy)) if copy.pool == pool => {
                    match Arc::ptr_eq(&copy.topology, view.topology()) {
                        true => Heard::Copy(copy),
                        false => Heard::Other,
                    }
                }
                Some(_) => Heard::Other,
            }
        });
        heard.collect()
    }
}

impl View {
    fn which_worker(&self) -> Worker {
        let workers: Vec<&Post> = self.serving().collect();
        match &workers[..] {
            [only] => Worker {
                index: Some(only.worker.index),
                why: "there is one worker".to_owned(),
            },
            workers => Worker {
                index: None,
                why: format!(
                    "each of the {} workers has a socket of its own, and the kernel chooses one for each connection \
                     by a hash of both addresses and ports with a secret of its own (SO_REUSEPORT)",
                    workers.len()
                ),
            },
        }
    }

    /// The place in the configuration of the pool that a route leads to.
    fn pool_at(&self, route: u16) -> Option<usize> {
        let place = self.plan.pool_of(route);
        self.layout().pool_at.iter().position(|at| *at == place)
    }
}

fn reloading() -> Wrong {
    Wrong {
        kind: WrongKind::Reloading,
        error: "a reload is under way: ask again".to_owned(),
        detail: Vec::new(),
    }
}
