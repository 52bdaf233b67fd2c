//! Who was served how much and waited how long, noted around any [`Line`] from outside: by what was sent and
//! what ended, never by the line's own account.

use proto_core::units::Moment;

use dataplane_core::limit::Axis;

use super::fair_line::{Party, TARIFF};
use super::world::{Line, Request, Room};

/// What one line did. Tenants are those of the parties.
#[derive(Debug, Clone, Default)]
pub struct Record {
    asked: Vec<Asked>,
    served: Vec<Served>,
    /// By tenant: requests asked and not sent.
    waiting: Vec<usize>,
    /// By tenant: when one of its requests was sent and none was left.
    dry: Vec<Moment>,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    tenant: usize,
    born_at: Moment,
    sent_at: Option<Moment>,
}

/// Input when it is sent, output when it has ended.
#[derive(Debug, Clone, Copy)]
struct Served {
    at: Moment,
    tenant: usize,
    tenths: u64,
}

impl Record {
    /// Tenths of service of each tenant in those seconds.
    pub fn services(&self, from: usize, to: usize) -> Vec<f64> {
        let mut services = vec![0.0; self.waiting.len()];
        for served in self.served.iter().filter(|served| seconds(from, to).contains(&served.at.0)) {
            services[served.tenant] += served.tenths as f64;
        }
        services
    }

    /// A tenant's part of all service.
    pub fn share(&self, tenant: usize, from: usize, to: usize) -> f64 {
        let services = self.services(from, to);
        services[tenant] / services.iter().sum::<f64>()
    }

    /// Tenths of service until the end of each second.
    pub fn course(&self, tenant: usize, to: usize) -> Vec<f64> {
        let mut course = vec![0.0; to];
        for served in self.served.iter().filter(|served| served.tenant == tenant) {
            if let Some(second) = course.get_mut((served.at.0 / SECOND_NS) as usize) {
                *second += served.tenths as f64;
            }
        }
        course.iter_mut().fold(0.0, |sum, second| {
            *second += sum;
            *second
        });
        course
    }

    /// The waits of all these tenants' requests that came in those seconds, in order. One that was never sent
    /// waited for ever.
    pub fn waits(&self, tenants: impl Fn(usize) -> bool, from: usize, to: usize) -> Waits {
        let came = self.asked.iter().filter(|asked| seconds(from, to).contains(&asked.born_at.0));
        let waits = came.filter(|asked| tenants(asked.tenant)).map(|asked| match asked.sent_at {
            Some(sent_at) => (sent_at - asked.born_at).as_secs_f64(),
            None => f64::INFINITY,
        });
        let mut waits: Vec<f64> = waits.collect();
        waits.sort_by(f64::total_cmp);
        Waits(waits)
    }

    /// The most by which service by weight of one tenant ran ahead of the other's, over any interval after
    /// `from`.
    pub fn widest(&self, [(i, of_i), (j, of_j)]: [(usize, u32); 2], from: usize) -> f64 {
        let (mut ahead, mut least, mut most, mut widest) = (0.0f64, 0.0f64, 0.0f64, 0.0f64);
        for served in self.served.iter().filter(|served| served.at.0 >= from as u64 * SECOND_NS) {
            if served.tenant == i {
                ahead += served.tenths as f64 / f64::from(of_i);
            } else if served.tenant == j {
                ahead -= served.tenths as f64 / f64::from(of_j);
            }
            (least, most) = (least.min(ahead), most.max(ahead));
            widest = widest.max(ahead - least).max(most - ahead);
        }
        widest
    }

    /// The second in which it last had nothing waiting.
    pub fn dry_until(&self, tenant: usize) -> usize {
        (self.dry[tenant].0 / SECOND_NS) as usize
    }
}

/// Seconds, sorted.
#[derive(Debug, Clone)]
pub struct Waits(Vec<f64>);

impl Waits {
    /// The wait that so many of a thousand do not pass.
    pub fn quantile(&self, permille: usize) -> f64 {
        self.0[(self.0.len() * permille / 1000).min(self.0.len() - 1)]
    }

    /// Of a hundred, how many waited at most so long: so many points a second, up to `to` seconds.
    pub fn distribution(&self, to: usize, per_second: usize) -> Vec<f64> {
        let point = |point: usize| point as f64 / per_second as f64;
        let within = |at: usize| self.0.partition_point(|wait| *wait <= point(at));
        (0..=to * per_second).map(|at| 100.0 * within(at) as f64 / self.0.len() as f64).collect()
    }
}

/// A line and the record of what it does.
pub struct Recorded<L> {
    pub line: L,
    pub record: Record,
    parties: Vec<Party>,
}

impl<L> Recorded<L> {
    pub fn new(line: L, parties: &[Party]) -> Recorded<L> {
        let tenants = parties.iter().map(|party| party.tenant + 1).max().unwrap_or(0);
        let (waiting, dry) = (vec![0; tenants], vec![Moment(0); tenants]);
        let record = Record { waiting, dry, ..Record::default() };
        Recorded { line, record, parties: parties.to_vec() }
    }

    fn serve(&mut self, at: Moment, tenant: usize, uncached: u64, output: u64) {
        let tenths = TARIFF.charge(uncached, 0, output).0;
        self.record.served.push(Served { at, tenant, tenths });
    }
}

impl<L: Line> Line for Recorded<L> {
    fn push(&mut self, now: Moment, request: Request) {
        let tenant = self.parties[request.source].tenant;
        self.record.asked.push(Asked { tenant, born_at: request.born_at, sent_at: None });
        assert_eq!(self.record.asked.len() as u64, request.id, "one data plane");
        self.record.waiting[tenant] += 1;
        self.line.push(now, request);
    }

    fn pop(&mut self, now: Moment, room: Room) -> Option<Result<Request, Axis>> {
        let popped = self.line.pop(now, room);
        if let Some(Ok(request)) = &popped {
            let tenant = self.parties[request.source].tenant;
            self.record.asked[request.id as usize - 1].sent_at = Some(now);
            self.record.waiting[tenant] -= 1;
            if self.record.waiting[tenant] == 0 {
                self.record.dry[tenant] = now;
            }
            self.serve(now, tenant, request.prompt_tokens, 0);
        }
        popped
    }

    fn on_first(&mut self, now: Moment, request: &Request) {
        self.line.on_first(now, request);
    }

    fn on_end(&mut self, now: Moment, request: &Request, is_answered: bool) {
        let party = self.parties[request.source];
        if is_answered {
            self.serve(now, party.tenant, 0, party.takes(request));
        }
        self.line.on_end(now, request, is_answered);
    }

    fn len(&self) -> usize {
        self.line.len()
    }
}

fn seconds(from: usize, to: usize) -> std::ops::Range<u64> {
    from as u64 * SECOND_NS..to as u64 * SECOND_NS
}

const SECOND_NS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_lead_is_that_of_the_worst_interval_of_either() {
        let served = |tenant, tenths| Served { at: Moment(0), tenant, tenths };
        let steps = [(0, 40), (1, 30), (1, 30), (0, 40), (0, 40)];
        let served = steps.map(|(tenant, tenths)| served(tenant, tenths)).to_vec();
        let record = Record { served, waiting: vec![0; 2], ..Record::default() };
        assert_eq!(record.widest([(0, 4), (1, 1)], 0), 60.0);
        assert_eq!(record.widest([(0, 1), (1, 1)], 0), 80.0);
        assert_eq!((record.share(0, 0, 1), record.course(1, 2)), (120.0 / 180.0, vec![60.0, 60.0]));
    }

    #[test]
    fn who_was_never_sent_waited_for_ever() {
        let asked = |sent_at| Asked { tenant: 0, born_at: Moment(0), sent_at };
        let asked = vec![asked(None), asked(Some(Moment(2 * SECOND_NS)))];
        let waits = Record { asked, ..Record::default() }.waits(|_| true, 0, 1);
        assert_eq!((waits.quantile(0), waits.quantile(990)), (2.0, f64::INFINITY));
        assert_eq!(waits.distribution(2, 1), [0.0, 0.0, 50.0]);
    }
}
