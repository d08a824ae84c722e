//! What a host got: each line is read, and held against what was made. Makes nothing happen.

use super::*;

/// What is numbered from here on is a barrier, and no echo.
const BARRIERS: u64 = 1 << 32;

impl Known {
    /// A host got a line. `end`: where its newline is.
    pub fn line(&mut self, line: &[u8], end: u64) -> Line {
        let connection = &mut self.connection;
        connection.lines += 1;
        while connection.bare.front().is_some_and(|at| *at < end) {
            connection.bare.pop_front();
        }
        let is_bare = connection.bare.pop_front_if(|at| *at == end).is_some();
        let said = self.says(line, is_bare);
        if is_bare {
            // It may have ended a line of the beginning before, which wanted only that.
            self.connection.last_made = 0;
        }
        said
    }

    fn says(&mut self, line: &[u8], is_bare: bool) -> Line {
        let connection = &self.connection;
        if line.is_empty() {
            return Line::Other;
        }
        let parsed: Parsed<'_> = match serde_json::from_slice(line) {
            Ok(parsed) => parsed,
            Err(error) => {
                let is_first = connection.is_swapped && connection.lines == 1;
                self.note("cut", line.len() as u64, u64::from(is_bare));
                if !is_bare && !is_first {
                    let start = String::from_utf8_lossy(&line[..line.len().min(60)]).into_owned();
                    self.breaks(|| format!("a host got a line that is none ({error}): {start}"));
                }
                return Line::Other;
            }
        };
        self.read(&parsed, line.len())
    }

    fn read(&mut self, parsed: &Parsed<'_>, length: usize) -> Line {
        match parsed.kind.as_deref() {
            None => self.got_reading(parsed.sequence, length),
            Some("keep_alive") => {
                let number = parsed.sequence_number.unwrap_or_default();
                // What the host got last may be older than the last beginning.
                if number >= BARRIERS && self.connection.bare.is_empty() {
                    self.connection.barriers.push(number);
                }
                if let Some(before) = self.echoes.remove(&number) {
                    let passed = self.readings_bytes - before;
                    let most = (WINDOW_BYTES + 2 * WRITE_BYTES_MAX) as u64;
                    if passed > most && !self.connection.was_stopped {
                        self.breaks(|| format!("{passed} bytes of readings went before an echo"));
                    }
                }
                return Line::KeepAlive(number);
            }
            Some("response" | "script_completion") => {
                let id = parsed.id.as_deref().or(parsed.execution_id.as_deref());
                match id.and_then(Id::of) {
                    Some(id) => self.got_answer(id, parsed.redelivered, length),
                    None => self.breaks(|| "an answer has no id of ours".to_owned()),
                }
            }
            Some("request_pending_scripts") => return Line::RequestPendingScripts,
            Some("agent_event") => {
                self.got_event(parsed.message.as_deref().unwrap_or_default(), parsed.redelivered)
            }
            Some("circuit_breaker_state") => {}
            Some(kind) => self.breaks(|| format!("a line of type {kind:?}")),
        }
        Line::Other
    }

    /// The port dropped the answers in `lines`: the connection that had asked for them has ended.
    pub fn undelivered(&mut self, lines: &[u8]) {
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let parsed = serde_json::from_slice::<Parsed<'_>>(line).ok();
            let id = parsed.as_ref().and_then(|parsed| {
                parsed.id.as_deref().or(parsed.execution_id.as_deref()).and_then(Id::of)
            });
            let Some(id) = id else { continue };
            self.note("undelivered", id.number, 0);
            let begun = self.begun;
            let asked = self.asked.entry(id).or_default();
            asked.may_be_lost = true;
            if asked.times == 1 && asked.at.is_some_and(|at| at > begun) {
                self.breaks(|| format!("{id:?} went to nobody, and its connection stands"));
            }
        }
    }

    fn got_reading(&mut self, sequence: Option<u64>, length: usize) {
        self.readings += 1;
        self.readings_bytes += length as u64 + 1;
        self.note("reading", sequence.unwrap_or_default(), length as u64);
        let last = self.last_reading;
        if sequence <= last {
            self.breaks(|| format!("reading {sequence:?} came after {last:?}"));
        }
        self.last_reading = sequence;
        self.written.got += u64::from(sequence > Some(self.written.before));
    }

    fn got_answer(&mut self, id: Id, is_marked: bool, length: usize) {
        self.note(if is_marked { "answer again" } else { "answer" }, id.number, length as u64);
        self.answers += 1;
        let last = self.connection.last_made;
        let asked = self.asked.entry(id).or_default();
        *(if is_marked { &mut asked.marked } else { &mut asked.unmarked }) += 1;
        let (unmarked, made) = (asked.unmarked, asked.made.len());
        let in_order = asked.made.iter().find(|answer| answer.order > last);
        let in_order = in_order.map(|answer| answer.order);
        if made == 0 || unmarked > made {
            return self
                .breaks(|| format!("{id:?} came {unmarked} times, and was made {made} times"));
        }
        match in_order {
            Some(order) => self.connection.last_made = order,
            None => self.breaks(|| format!("{id:?} came behind a later answer ({last})")),
        }
    }
}
