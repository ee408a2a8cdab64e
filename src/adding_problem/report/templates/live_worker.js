"use strict";
// A training in a worker: it says how it stands after every epoch, and listens in between.
//
// Hears {choices}, {paused} and {limit}, in sequence-steps.
// Says {step, sequenceSteps, length, error, finished, shown, beyond}.

const TIMES = [1, 2, 10, 100]; // of T: lengths at which the model is tested
const SLICE = 50; // milliseconds of training before it listens
const SHARE = 2; // sequence-steps of training for each of testing

let training,
  limit = Infinity,
  spent = 0,
  nextTested = 0;
let paused = false,
  waiting = false,
  over = false;

function test(times) {
  const { n, mse } = training.beyond(times * training.T);
  return { times, n, error: mse };
}

function report() {
  const { sequenceSteps, schedule, solved, validation: error } = training;
  const finished = solved
    ? "solved"
    : Number.isFinite(error)
      ? sequenceSteps >= limit
        ? "limit"
        : ""
      : "diverged";
  const beyond = [];
  if (finished) beyond.push(...TIMES.map(test));
  else if (sequenceSteps - spent > SHARE * training.costBeyond(TIMES[nextTested] * training.T)) {
    spent = sequenceSteps;
    beyond.push(test(TIMES[nextTested]));
    nextTested = (nextTested + 1) % TIMES.length;
  }
  postMessage({
    step: schedule.step,
    sequenceSteps,
    length: schedule.length,
    error,
    finished,
    shown: training.look(),
    beyond,
  });
  over = finished !== "";
}

function work() {
  const end = performance.now() + SLICE;
  waiting = false;
  while (!over && performance.now() < end) {
    if (training.step()) report();
  }
  goOn();
}

function goOn() {
  if (over || paused || waiting) return;
  waiting = true;
  setTimeout(work);
}

onmessage = ({ data }) => {
  limit = data.limit ?? limit;
  paused = data.paused ?? paused;
  if (data.choices) {
    training = new Training(data.choices);
    report();
  }
  goOn();
};
