"""People who became the name of a disease or sign, and how such names are told from patients."""

import re
from functools import lru_cache

from pipeline.deidentify.lists import lines_of, words

EPONYMS = lines_of("eponyms") | words(
    """
    addison alzheimer apgar asperger babinski baker barre barr barré barrett bartholin bartter behcet bell
    berger bowen braxton broca brugada buerger burkitt charcot chiari chagas cheyne coombs cooper cowden
    creutzfeldt crohn cushing dandy down downs dupuytren duchenne ebstein ehlers epstein ewing fabry
    fallot fanconi foley fontan frank friedreich gardner gaucher gilbert gilles glasgow gleason
    goodpasture graves guillain hansen hartmann hartnup hashimoto henoch heimlich hirschsprung hodgkin
    hodgkins horner huntington hurler jakob johnson kaposi kallmann kawasaki kegel klinefelter korsakoff
    krabbe kussmaul langerhans leigh leber lewy lou gehrig lyme lynch mallory marfan mcburney meckel
    meniere ménière menetrier merkel mohs moebius munchausen murphy niemann noonan osgood osler paget pap
    papanicolaou parkinson parkinsons peyronie pick plummer pott prader purkinje ramsay raynaud reed
    reiter rett reye reynaud romberg rorschach salter sanger schilling schonlein scheuermann sezary
    sheehan sjogren sjögren snellen stevens still sturge swan sydenham takayasu tay sachs tietze tinel
    tourette turner valsalva virchow vincent waldenstrom waterhouse wegener weber werdnig wernicke whipple
    willebrand willi williams willis wilms wilson wolff wolfram zellweger zollinger ellison danlos peutz
    jeghers barrington tanner kocher pringle billroth hickman holter doppler wallenberg zenker schwann bowman
    henle langer gram giemsa wright golgi krebs kerley lisfranc colles smith monteggia galeazzi angelman
    sotos usher alport bardet biedl alagille stargardt pompe menkes batten canavan alexander refsum hunter
    sanfilippo morquio stickler treacher collins crouzon apert pfeiffer denys drash schmorl perthes legg
    calve blount sever kohler freiberg mckusick pelizaeus merzbacher kniest norrie bannayan achilles oddi
    vater auerbach meissner brunner cajal calot corti cowper descemet eustachi fallopian gerota glisson
    graaf havers hesselbach kupffer leydig lieberkuhn luschka magendie malpighi meibom morgagni nissl pacini
    paneth peyer ranvier retzius ruffini santorini scarpa schlemm sertoli sharpey skene stensen sylvius
    tenon treitz wharton wirsung ishihara goldmann heimlich lasegue trendelenburg chvostek trousseau
    brudzinski kernig allis ortolani barlow phalen finkelstein lachman mcmurray weiss hashimoto virchow
    """
)
"""People who became the name of a disease, sign, score or instrument; the rarer ones by a list that was
made as ``terms`` was: what stands before "disease" or "syndrome" in MeSH and is no English word."""

_OF_DISEASE = (
    r"(?:muscular|muscle|plus|chronic|acute|familial|hereditary|congenital|juvenile|infantile|adult|classic|classical|"
    r"spinal|spastic|cerebral|cranial|facial|hepatic|renal|eye|heart|kidney|lung|skin|blood|bone|brain|liver|"
    r"cutaneous|visceral|optic|peripheral|lymphoproliferative|chondrodystrophic|pseudo|variant|type|disease|syndrome)"
)
"""Words between a name and what it names."""

EPONYM_NOUN = re.compile(
    r"(?:\s?['’ʼ]\s?s\b|s\b|['’ʼ]|\s['’ʼ](?=\s))?"
    r"(?:\s(?:and|or)\s(?-i:[A-Z])\w+(?:\s?['’ʼ]\s?s\b)?)?"
    rf"(?:\s?[/–-]\s?\w+|\s(?:(?-i:[A-Z])\w+|{_OF_DISEASE}|\w{{7,}}(?:al|ic|ous|ar)\b)){{0,2}}(?:\s\(\s?\w+\s?\))?(?:[\s-]+"
    r"(?:disease|diseases|syndrome|syndromes|(?:signs?|tests?|scores?|stains?)(?!\s(?:the|a|an|his|her|my|our|it|"
    r"this|that|these|those|up|off|out|positive\sfor)\b)|scale|lymphoma|"
    r"lymphomas|palsy|catheter|thyroiditis|chorea|contracture|sarcoma|tumou?rs?|maneuver|manoeuvre|reflex|criteria|"
    r"classification|grade|law|phenomenon|esophagus|oesophagus|ulcer|cyst|fracture|node|nodes|nodule|body|bodies|procedure|operation|"
    r"anemia|anaemia|disorder|dystrophy|dystrophies|atrophy|ataxia|neuropathy|sclerosis|virus|antigen|cells?|"
    r"encephalopathy|type|monitor|line|index|formula|method|encephalitis|macroglobulinemia|factor|granulomatosis|arteritis|"
    r"purpura|malformation|anomaly|anomalies|tetralogy|triad|fasciitis|hernia|gangrene|paralysis|pupils?|lesions?|stage|"
    r"nephropathy|optic|dementia|mutations?|gene|protein|cancer|dysplasia|neuralgia|facies|deficient|deficiency|"
    r"myotonia|galactosemia|spasm|dyskinesia|protocol|tendons?|phenotype|alleles?)\b|-like\b)",
    re.IGNORECASE,
)
"""What follows a name that is medicine rather than a person."""


@lru_cache(maxsize=1)
def lone_eponyms() -> frozenset[str]:
    """EPONYMS that mean no patient where they stand alone: all but usual American and British surnames."""
    from faker.providers.person.en_GB import Provider as British
    from faker.providers.person.en_US import Provider as American

    usual = {str(name).lower() for name in [*American.last_names, *British.last_names]}
    return (EPONYMS - usual) | words("barr downs foley graves hickman parkinson tanner")
