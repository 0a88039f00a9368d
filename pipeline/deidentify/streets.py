"""How streets and addresses are written, here and elsewhere: pieces of regular expressions."""

from pipeline.deidentify.known_names import WORD

STREET = (
    r"(?:Street|St|Avenue|Ave|Road|Rd|Lane|Ln|Drive|Dr|Court|Ct|Boulevard|Blvd|Place|Pl|Way|Terrace|Ter|Circle|Cir|"
    r"Parkway|Pkwy|Highway|Hwy|Square|Sq|Trail|Trl|Crescent|Close|Alley|Row|Walk|Loop|Plaza|Pike|Turnpike|"
    r"Parade|Circuit|Mews|Grove|Gardens|Quay|Rise)"
)
LINK = (
    r"(?:de|del|della|da|do|dos|das|di|la|le|les|las|los|el|am|an|der|den|the|of|on|upon|sur|na|nad|ob|pod|pri|v|"
    r"ter|ten|aan|bij|op|im|in|bei|by|under|e|y|en)"
)
"""Small words inside a town's name."""
RARE_STREET = (
    r"(?:Annex|Arcade|Artery|Bayou|Beach|Bend|Bluffs?|Branch|Bridge|Brooks?|Burgs?|Bypass|Camp|Canyon|Cape|Causeway|Centers?|Centre|Cliffs?|Club|Commons?|"
    r"Corners?|Courts|Coves?|Creek|Crest|Crossing|Crossroads?|Curve|Dale|Dam|Deviation|Drives|Estates?|Expressway|Extensions?|Falls|"
    r"Ferry|Fields?|Flats?|Fords?|Forest|Forges?|Forks?|Fort|Freeway|Garden|Gateway|Glens?|Greens?|Groves|Harbors?|Haven|"
    r"Heights|Hills?|Hollow|Inlet|Islands?|Isle|Junctions?|Keys?|Knolls?|Lakes?|Landing|Light|Locks?|Lodge|Mall|Manors?|"
    r"Meadows?|Mills?|Mission|Motorway|Mountains?|Neck|Orchard|Oval|Overpass|Parks?|Passage|Pass|Paths?|Pines?|Plains?|"
    r"Points?|Ports?|Prairie|Radial|Ranch|Rapids?|Ridges?|River|Route|Shoals?|Shores?|Skyway|Springs?|Spurs?|Station|Stravenue|Stream|"
    r"Streets|Summit|Throughway|Trace|Track|Trafficway|Tunnel|Underpass|Unions?|Valleys?|Viaduct|Views?|Villages?|Ville|"
    r"Vista|Walks|Wall|Ways|Wells?)"
)
"""The rest of the United States Postal Service's street suffixes: words that mean other things too."""
PART = (
    r"(?:(?!I\b)(?![a-zß-öø-ÿ])(?:[^\W\d_]{1,4}\b\.|[^\W\d_][\w'’/()-]*)|\d+[A-Za-z]?\b(?:\.(?=\n|[ ][a-z]))?"
    r"|C/|u\.|(?:of|and|de|d['’]\w+|del|della|di|da|do|du|la|le|el|tér|út|útja|utca|põik|ter|van|von|den|str)\b\.?)"
)
"""A word of an address: capitalised, a number, or one of the small words of streets and towns; a dot
ends a short word or a number inside a sentence, and no sentence."""
PARTS = rf"{PART}(?:(?:,?[ ]|,?[ ]?\n[ ]?,?[ ]?){PART}){{1,14}}"
WITH_UNIT = (
    rf"\d{{1,6}}[A-Za-z]?[ ]{PART}(?:[ ]{PART}){{0,6}}?"
    rf"[,\s]{{1,3}}(?:Suite|Ste|Apt|Apartment|Unit)\b\.?[ ]?#?\d+(?:[,\s]{{1,4}}{PART}){{0,8}}"
)
"""A house number and a unit with nothing but capitalised words and numbers between, and what follows."""
STREET_WORLDWIDE = (
    rf"(?:\d{{1,6}}[A-Za-z]?[ ])?(?:{WORD}-(?:Stra(?:ß|ss)e|Gasse|Weg|Allee|Platz|Ring|Ufer)|{WORD}"
    r"(?:stra(?:ß|ss)e|straat|gata|gatan|vej|vegen|veien|väg|vägen|laan|katu|tie|ulica|utca|kuja|weg|gasse|"
    r"kroken|bakken|toppen|haugen|svingen|løkka|åsen|ring|steeg|dreef|hof|damm|ufer|pfad|"
    r"bulevardi|kaari|rinne|raitti|baan|myra|tunet|torget|jordet|berget|lunden|grenda|neset|stubben|gränden|backen|stien|stigen|moen|tangen|neset|vika|dalen|gränd|gade|plads|torv|stræde|vænget|polku|tänav|puiestee|allee|platz|plein|kade|singel)"
    r"|(?:Rua|Rue|Place|Via|Viale|Calle|C/|Avenida|Avenue|Strada|Piazza|Praça|Paseo|Largo|Incrocio|Canale|Vicolo|"
    r"Borgo|Contrada|Rotonda|Stretto|Salita|"
    r"Travessa|Alameda|Estrada|Ladeira|Parque|Praia|Jardim|Vila|Vereda|Rodovia|Viaduto|Acceso|Andador|Callejón|Calzada|"
    r"Cerrada|Circuito|Circunvalación|Corredor|Diagonal|Privada|Prolongación|Periférico|Retorno|Cañada|Cuesta|Rambla|"
    r"Peatonal|Continuación|Ampliación|Pasadizo|Fazenda|Chácara|Sítio|Residencial|Recanto|Trecho|Quadra|Passarela|Feira|"
    r"Lagoa|Loteamento|Núcleo|Pátio|Setor|Viela|Condomínio|Conjunto|Esplanada|Colônia|"
    r"Urbanización|Glorieta|Ronda|Camino|Pasaje|Impasse|Allée|Quai|Carrer|Ulica|Chemin|Boulevard|Corso)"
    rf"(?:[ ]{PART}){{1,5}}?),?[ ]\d{{1,5}}[A-Za-z]?(?:[/-]\d{{1,4}})?\b"
    rf"|{WORD}(?:[ ][^\W\d_]+){{0,2}}[ ](?:út|útja|utca|tér|köz|körút|ulica|ulice|cesta|trg|náměstí|třída|gatan|vägen|veien|"
    rf"vej|tie|katu|sokak|caddesi|plein|kade|singel|platz|allee|allé|weg|mnt|tn|pst|u)\.?[ ]\d{{1,5}}[A-Za-z]?\b\.?"
    r"|(?:\d{1,5}(?:[ ](?:bis|ter))?,?[ ])(?i:rue|avenue|boulevard|chemin|place|impasse|allée|quai|route|cours|square)"
    rf"(?:[ ](?:de|du|des|d['’]|la|le|les|l['’]|{WORD})){{1,5}}"
    rf"|(?:rue|avenue|boulevard|chemin)(?:[ ](?:de|du|des|la|le|{WORD})){{1,4}}(?=,?[ \n]\d{{5}}|\n|$)"
    rf"|\b(?:ul\.|al\.|pl\.|os\.|av\.|avda\.|c\.|str\.|r\.|ulica|aleja|plac|osiedle|nám\.|náměstí)[ ]"
    rf"{WORD}(?:[ ]{WORD}){{0,3}}[ ]\d{{1,5}}[A-Za-z]?(?:/\d{{1,4}})?\b"
)
"""Streets as they are written in other languages: the number comes last."""
