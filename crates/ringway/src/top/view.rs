//! The screen of `ringway top`, and what keys do to it. Not the numbers. Invariant: it draws into any
//! size, also one that has no room for it.

use std::cmp::Ordering;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{self, Cell as Shown, Paragraph, Row as Drawn};

use super::board::{Board, Mood, Order, Row, Totals, scaled};

/// Rows of the workers above the other tables.
const WORKERS_SHOWN: u16 = 8;
/// A screen lower than this shows one table only.
const TALL: u16 = 20;

/// What a user wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Quit,
    NextTable,
    PreviousTable,
    SortLeft,
    SortRight,
    Reverse,
    Trouble,
    Pause,
    /// By lines.
    Scroll(isize),
    /// By what fits.
    Page(isize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Table {
    Backends,
    Listeners,
    Workers,
}

#[derive(Clone, Copy, Debug)]
struct Column {
    title: &'static str,
    width: Constraint,
    is_number: bool,
}

const fn name(title: &'static str, width: u16) -> Column {
    Column {
        title,
        width: Constraint::Fill(width),
        is_number: false,
    }
}

const fn figure(title: &'static str) -> Column {
    Column {
        title,
        width: Constraint::Length(10),
        is_number: true,
    }
}

impl Table {
    const ALL: [Table; 3] = [Table::Backends, Table::Listeners, Table::Workers];

    fn title(self) -> &'static str {
        match self {
            Table::Backends => "backends",
            Table::Listeners => "listeners",
            Table::Workers => "workers",
        }
    }

    fn columns(self) -> &'static [Column] {
        match self {
            Table::Backends => {
                const COLUMNS: &[Column] = &[
                    name("pool", 2),
                    name("backend", 4),
                    name("state", 2),
                    figure("open"),
                    figure("new"),
                    figure("failed"),
                    figure("total"),
                    name("why", 2),
                ];
                COLUMNS
            }
            Table::Listeners => {
                const COLUMNS: &[Column] = &[
                    name("listener", 2),
                    name("address", 4),
                    name("pool", 2),
                    figure("open"),
                    figure("new"),
                    figure("refused"),
                    figure("total"),
                ];
                COLUMNS
            }
            Table::Workers => {
                const COLUMNS: &[Column] = &[
                    figure("worker"),
                    figure("CPU"),
                    figure("open"),
                    figure("new"),
                    figure("bytes"),
                    figure("busy"),
                ];
                COLUMNS
            }
        }
    }

    fn rows(self, board: &Board) -> Vec<Row> {
        match self {
            Table::Backends => board.backends(),
            Table::Listeners => board.listeners(),
            Table::Workers => board.workers(),
        }
    }
}

/// The order of one table.
#[derive(Clone, Copy, Debug, Default)]
struct Sorting {
    column: usize,
    is_reversed: bool,
}

/// What is shown, and how.
#[derive(Debug)]
pub(super) struct Screen {
    endpoint: String,
    table: Table,
    sorting: [Sorting; Table::ALL.len()],
    is_trouble_only: bool,
    is_paused: bool,
    /// Rows above the first that is shown.
    above: usize,
    /// Rows that fit, as drawn last.
    room: usize,
    /// Rows there are, as drawn last.
    rows: usize,
}

impl Screen {
    pub(super) fn new(endpoint: String) -> Screen {
        Screen {
            endpoint,
            table: Table::Backends,
            // Those with most to do first; workers by number.
            sorting: [
                Sorting {
                    column: 4,
                    is_reversed: true,
                },
                Sorting {
                    column: 4,
                    is_reversed: true,
                },
                Sorting::default(),
            ],
            is_trouble_only: false,
            is_paused: false,
            above: 0,
            room: 1,
            rows: 0,
        }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.is_paused
    }

    pub(super) fn press(&mut self, key: Key) {
        let columns = self.table.columns().len();
        match key {
            Key::Quit => {}
            Key::NextTable => self.turn_to(1),
            Key::PreviousTable => self.turn_to(Table::ALL.len() - 1),
            Key::SortLeft => self.sort_by(columns - 1),
            Key::SortRight => self.sort_by(1),
            Key::Reverse => self.sorting[self.table as usize].is_reversed ^= true,
            Key::Trouble => self.is_trouble_only ^= true,
            Key::Pause => self.is_paused ^= true,
            Key::Scroll(by) => self.scroll(by),
            Key::Page(by) => self.scroll(by.saturating_mul(self.room as isize)),
        }
    }

    fn turn_to(&mut self, by: usize) {
        self.table = Table::ALL[(self.table as usize + by) % Table::ALL.len()];
        self.above = 0;
    }

    /// Numbers begin with the largest, names with the first.
    fn sort_by(&mut self, by: usize) {
        let columns = self.table.columns();
        let sorting = &mut self.sorting[self.table as usize];
        sorting.column = (sorting.column + by) % columns.len();
        sorting.is_reversed = columns[sorting.column].is_number;
    }

    fn scroll(&mut self, by: isize) {
        self.above = self
            .above
            .saturating_add_signed(by)
            .min(self.rows.saturating_sub(self.room));
    }

    pub(super) fn draw(&mut self, frame: &mut Frame<'_>, board: &Board) {
        let area = frame.area();
        let workers = match self.table {
            Table::Backends | Table::Listeners if area.height >= TALL => {
                let rows = board.workers().len().min(usize::from(WORKERS_SHOWN));
                rows as u16 + 2
            }
            Table::Backends | Table::Listeners | Table::Workers => 0,
        };
        let [head, strip, tabs, body, foot] = Layout::vertical([
            Constraint::Length(2),
            Constraint::Length(workers),
            Constraint::Length(1),
            Constraint::Fill(1),
            Constraint::Length(1),
        ])
        .areas(area);
        frame.render_widget(Paragraph::new(self.headline(board)), head);
        if workers > 0 {
            let fitting = usize::from(WORKERS_SHOWN);
            let rows = board.workers();
            let title = if rows.len() > fitting {
                "workers, the busiest"
            } else {
                "workers"
            };
            let busiest = Sorting {
                column: 5,
                is_reversed: true,
            };
            let rows = if rows.len() > fitting {
                sorted(rows, busiest)
            } else {
                rows
            };
            let [line, table] =
                Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(strip);
            frame.render_widget(Line::styled(title, Modifier::BOLD), line);
            draw_table(frame, table, Table::Workers, None, &rows);
        }
        self.draw_body(frame, tabs, body, board);
        let keys =
            "q quit  Tab table  < > sort by  r reverse  t trouble only  p pause  arrows scroll";
        frame.render_widget(Line::styled(keys, Color::DarkGray), foot);
    }

    fn draw_body(&mut self, frame: &mut Frame<'_>, tabs: Rect, body: Rect, board: &Board) {
        let sorting = self.sorting[self.table as usize];
        let mut rows = self.table.rows(board);
        let all = rows.len();
        if self.is_trouble_only {
            rows.retain(|row| row.mood != Mood::Fine);
        }
        let rows = sorted(rows, sorting);
        self.rows = rows.len();
        self.room = usize::from(body.height.saturating_sub(1)).max(1);
        self.scroll(0);
        let shown = &rows[self.above..rows.len().min(self.above + self.room)];
        let place = match shown.len() {
            0 => format!("none of {all}"),
            count => format!(
                "{} to {} of {}",
                self.above + 1,
                self.above + count,
                rows.len()
            ),
        };
        let mut line = Vec::new();
        for table in Table::ALL {
            let style = if table == self.table {
                Modifier::REVERSED
            } else {
                Modifier::empty()
            };
            line.extend([
                Span::styled(format!(" {} ", table.title()), style),
                Span::raw(" "),
            ]);
        }
        line.push(Span::styled(place, Color::DarkGray));
        if self.is_trouble_only {
            line.push(Span::styled("  trouble only", Color::Yellow));
        }
        frame.render_widget(Line::from(line), tabs);
        draw_table(frame, body, self.table, Some(sorting), shown);
    }

    fn headline(&self, board: &Board) -> Vec<Line<'static>> {
        let Some(last) = &board.last else {
            let text = board
                .trouble
                .clone()
                .unwrap_or_else(|| format!("asking {}", self.endpoint));
            return vec![Line::styled(text, Color::Yellow)];
        };
        let (state, colour) = match (&board.trouble, &last.unready) {
            (Some(_), _) => ("no answer".to_owned(), Color::Red),
            (None, _) if self.is_paused => ("paused".to_owned(), Color::Yellow),
            (None, _) if last.draining => (crate::status::draining(last), Color::Yellow),
            (None, Some(why)) => (format!("not ready: {why}"), Color::Yellow),
            (None, None) => ("ready".to_owned(), Color::Green),
        };
        let up = crate::status::coarse(last.uptime_seconds);
        let first = Line::from(vec![
            Span::styled("ringway ", Modifier::BOLD),
            Span::raw(clean(&format!(
                "{} at {}, pid {}, up {up}, ",
                last.version, self.endpoint, last.pid
            ))),
            Span::styled(
                clean(&state),
                Style::new().fg(colour).add_modifier(Modifier::BOLD),
            ),
        ]);
        let second = match &board.trouble {
            Some(why) => Line::styled(clean(why), Color::Red),
            None => {
                let Totals {
                    accepted,
                    refused,
                    received_bytes,
                } = board.totals();
                let rate = |value: Option<f64>| value.map_or("-".to_owned(), scaled);
                Line::raw(format!(
                    "{} of at most {} connections, {}/s new, {}/s refused, {}B/s received",
                    last.connections,
                    last.connections_max,
                    rate(accepted),
                    rate(refused),
                    rate(received_bytes)
                ))
            }
        };
        vec![first, second]
    }
}

fn clean(text: &str) -> String {
    text.replace(char::is_control, "?")
}

fn sorted(mut rows: Vec<Row>, sorting: Sorting) -> Vec<Row> {
    rows.sort_by(|a, b| {
        let order = compare(
            &a.cells[sorting.column].order,
            &b.cells[sorting.column].order,
        );
        if sorting.is_reversed {
            order.reverse()
        } else {
            order
        }
    });
    rows
}

fn compare(a: &Order, b: &Order) -> Ordering {
    match (a, b) {
        (Order::Text(a), Order::Text(b)) => a.cmp(b),
        (Order::Number(a), Order::Number(b)) => a.total_cmp(b),
        (Order::Number(_), Order::Text(_)) => Ordering::Less,
        (Order::Text(_), Order::Number(_)) => Ordering::Greater,
    }
}

fn draw_table(
    frame: &mut Frame<'_>,
    area: Rect,
    table: Table,
    sorting: Option<Sorting>,
    rows: &[Row],
) {
    let columns = table.columns();
    let align = |column: &Column, text: String| {
        let line = Line::from(text);
        Shown::new(if column.is_number {
            line.right_aligned()
        } else {
            line
        })
    };
    let head = columns.iter().enumerate().map(|(at, column)| {
        let mark = match sorting {
            Some(sorting) if sorting.column == at && sorting.is_reversed => " v",
            Some(sorting) if sorting.column == at => " ^",
            Some(_) | None => "",
        };
        align(column, format!("{}{mark}", column.title))
    });
    let lines = rows.iter().map(|row| {
        let cells = columns.iter().zip(&row.cells);
        let style = match row.mood {
            Mood::Fine => Style::new(),
            Mood::Odd => Style::new().fg(Color::Yellow),
            Mood::Bad => Style::new().fg(Color::Red),
        };
        Drawn::new(cells.map(|(column, cell)| align(column, cell.text.clone()))).style(style)
    });
    let drawn = widgets::Table::new(lines, columns.iter().map(|column| column.width))
        .header(Drawn::new(head).style(Modifier::UNDERLINED))
        .column_spacing(2);
    frame.render_widget(drawn, area);
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
