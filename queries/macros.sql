-- Formulas that more than one view uses, and that ad-hoc SQL may use as well.

-- The paper's predictivity of a neuron for a function (Zhang et al. 2023): the better of two average
-- precisions, with the function's positives as positives and with its negatives as positives.
create or replace macro predictivity(ap, ap_complement) as greatest(ap, ap_complement);

-- How far average precision rises above chance in the better direction, as a share of the most that a
-- detector of this function could rise: 0 at chance, 1 when perfect on the rarer class, and the same when the
-- label is complemented. Chance is the prevalence p in one direction and 1 - p in the other, so that
-- predictivity is never below about greatest(p, 1 - p): of a function with 1% positives every neuron has a
-- predictivity of .99, and the raw value ranks functions by their rarity. Lift can be compared between
-- functions; for balanced classes it ranks exactly as predictivity does. NULL where the prevalence is unknown.
create or replace macro lift(ap, ap_complement, prevalence) as
    greatest(ap - prevalence, ap_complement - (1 - prevalence)) / greatest(prevalence, 1 - prevalence);

-- A score in the direction another half prefers: so that what is held out chooses nothing, its direction neither.
create or replace macro in_direction(preference, positive, complement) as
    case when preference >= 0 then positive when preference < 0 then complement end;
